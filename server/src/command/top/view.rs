//! The console's state as lines of text.

use std::fmt::Write as _;

use serde_json::Value;

/// Whether the text may have colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    Plain,
    Colours,
}

impl Style {
    pub(super) const fn of(terminal: bool) -> Style {
        if terminal { Style::Colours } else { Style::Plain }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const DIM: &str = "2";

/// A column: its heading, its width, whether it is a number, and its text.
type Column<'c> = (&'c str, usize, bool, &'c dyn Fn(&Value) -> String);

/// The whole view, with at most `rows` rows in each table.
pub(super) fn view(state: &Value, rows: usize, style: Style) -> String {
    let now = &state["now"];
    let mut out = head(state, style);
    for alert in alerts(now) {
        out += &format!("{}\n", style.paint(RED, &alert));
    }
    out += &keys("REFUSED KEYS", &now["keys"]["refused"], rows, style);
    out += &keys("TOP KEYS", &now["keys"]["asked"], rows, style);
    out += &rules(&now["rules"]["shown"], rows, style);
    out += &circuits(&now["breakers"]["shown"], rows, style);
    out += &fallbacks(&now["fallbacks"], rows, style);
    out
}

fn head(state: &Value, style: Style) -> String {
    let (now, point) = (&state["now"], &state["now"]["point"]);
    let title = format!("tollgate {}", plain(&state["fixed"]["version"]));
    let rates = format!(
        "allowed {}/s   refused {}/s   failed {}/s   fallbacks {}/s",
        figure(&point[1]),
        figure(&point[2]),
        figure(&point[3]),
        figure(&point[5]),
    );
    let up = now["uptime_seconds"].as_u64().unwrap_or_default();
    format!("{}  up {up} s   {rates}\n{}\n", style.paint(BOLD, &title), store(now))
}

fn store(now: &Value) -> String {
    let (store, point) = (&now["store"], &now["point"]);
    if store["kind"] == "memory" {
        return format!("store: memory, {} keys, {} bytes", figure(&store["keys"]), figure(&store["bytes"]));
    }
    let state = if store["up"] == true { "up" } else { "DOWN" };
    let (p50, p99, calls) = (figure(&point[6]), figure(&point[7]), figure(&point[8]));
    format!(
        "store: Redis {state}, p50 {p50} µs, p99 {p99} µs, {calls} calls/s, {} waiting",
        figure(&store["waiting"])
    )
}

/// What has to be seen first.
fn alerts(now: &Value) -> Vec<String> {
    let mut alerts = Vec::new();
    if now["store"]["up"] == false {
        alerts.push("! the store is down".to_owned());
    }
    for problem in list(&now["config"]["problems"]) {
        alerts.extend(text(problem).lines().map(|line| format!("! rules refused: {line}")));
    }
    for peer in list(&now["peers"]).iter().filter(|peer| !peer["silent"].is_null()) {
        alerts.push(format!("! {} is silent: {}", plain(&peer["address"]), plain(&peer["silent"])));
    }
    alerts
}

fn keys(title: &str, keys: &Value, rows: usize, style: Style) -> String {
    let bounds = |row: &Value| match (row["low"].as_u64(), row["high"].as_u64()) {
        (Some(low), Some(high)) if low != high => format!("{low}-{high}"),
        _ => "exact".to_owned(),
    };
    let last = |row: &Value| format!("{} s ago", figure(&row["seconds_ago"]));
    let of = |row: &Value| format!("{}/{}", figure(&row["used"]), figure(&row["limit"]));
    let columns: [Column<'_>; 6] = [
        (title, 44, false, &|row| plain(&row["key"])),
        ("RULE", 34, false, &|row| plain(&row["rule"])),
        ("COUNT", 9, true, &|row| figure(&row["count"])),
        ("BOUNDS", 15, true, &bounds),
        ("USED", 15, true, &of),
        ("LAST", 10, true, &last),
    ];
    table(&columns, list(keys), rows, style)
}

fn rules(rules: &Value, rows: usize, style: Style) -> String {
    let percent =
        |row: &Value| row["use_percent"].as_u64().map_or_else(|| "-".to_owned(), |use_| format!("{use_}%"));
    let columns: [Column<'_>; 6] = [
        ("RULES", 44, false, &|row| plain(&row["rule"])),
        ("LIMIT", 24, false, &|row| plain(&row["limit"])),
        ("STATE", 9, false, &|row| plain(&row["state"])),
        ("ALLOWED/S", 10, true, &|row| figure(&row["allowed"])),
        ("REFUSED/S", 10, true, &|row| figure(&row["refused"])),
        ("FULLEST", 8, true, &percent),
    ];
    table(&columns, list(rules), rows, style)
}

fn circuits(circuits: &Value, rows: usize, style: Style) -> String {
    if list(circuits).is_empty() {
        return String::new();
    }
    let name = |row: &Value| {
        let parts = ["namespace", "target", "shard", "operation"].map(|part| plain(&row[part]));
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    };
    let forced = |row: &Value| {
        if row["override"].is_null() { String::new() } else { plain(&row["override"]["reason"]) }
    };
    let columns: [Column<'_>; 5] = [
        ("BREAKERS", 44, false, &name),
        ("STATE", 14, false, &|row| plain(&row["state"])),
        ("FAILED", 9, true, &|row| figure(&row["failures"])),
        ("CALLS", 9, true, &|row| figure(&row["calls"])),
        ("  OVERRIDE", 40, false, &|row| format!("  {}", forced(row))),
    ];
    table(&columns, list(circuits), rows, style)
}

fn fallbacks(log: &Value, rows: usize, style: Style) -> String {
    if list(log).is_empty() {
        return String::new();
    }
    let columns: [Column<'_>; 4] = [
        ("FALLBACKS", 44, false, &|row| plain(&row["rule"])),
        ("CAUSE", 14, false, &|row| plain(&row["cause"])),
        ("ANSWERED", 10, false, &|row| plain(&row["answer"])),
        ("TIMES", 9, true, &|row| figure(&row["times"])),
    ];
    table(&columns, list(log), rows, style)
}

fn table(columns: &[Column<'_>], all: &[Value], rows: usize, style: Style) -> String {
    let headings = columns.iter().map(|(heading, width, number, _)| cell(heading, *width, *number));
    let mut out = format!("\n{}\n", style.paint(BOLD, headings.collect::<String>().trim_end()));
    for row in all.iter().take(rows) {
        let cells = columns.iter().map(|(_, width, number, show)| cell(&show(row), *width, *number));
        out.extend([cells.collect::<String>().trim_end(), "\n"]);
    }
    match all.len() {
        0 => out += &format!("{}\n", style.paint(DIM, "-")),
        all if all > rows => {
            // writing to a string does not fail
            let _ = writeln!(out, "{}", style.paint(DIM, &format!("… {} more", all - rows)));
        }
        _ => {}
    }
    out
}

/// Padded or cut to `width`, and a space.
fn cell(text: &str, width: usize, number: bool) -> String {
    let length = text.chars().count();
    let fitting: String = match length > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    };
    if number { format!("{fitting:>width$} ") } else { format!("{fitting:<width$} ") }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text that moves no cursor.
fn plain(value: &Value) -> String {
    text(value).chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect()
}

fn figure(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state() -> Value {
        let key = |key: &str, low: u64| json!({ "key": key, "rule": "shop.user", "count": 12, "low": low, "high": 12, "used": 17, "limit": 5, "seconds_ago": 0 });
        json!({
            "fixed": { "version": "0.1.0" },
            "now": {
                "uptime_seconds": 9,
                "point": [1, 10.5, 3.0, 0.0, 0.0, 0.0, 111, 900, 4.0],
                "store": { "kind": "redis", "up": false, "waiting": 0 },
                "keys": { "refused": [key("user=ann", 12), key("user=\u{1b}[2Jbob", 3)], "asked": [] },
                "rules": { "shown": [{ "rule": "shop.user", "limit": "5 per minute", "state": "over", "allowed": 1.0, "refused": 3.0, "use_percent": 100 }] },
                "config": { "problems": ["a.yaml:3:5: unknown key 'x'\n  more"] },
                "peers": [{ "address": "h:1", "silent": "no answer" }, { "address": "h:2", "silent": null }],
                "breakers": { "shown": [] },
                "fallbacks": [{ "rule": "shop.user", "cause": "open", "answer": "deny", "times": 3 }],
            },
        })
    }

    #[test]
    fn the_refused_key_stands_beside_its_rule() {
        let text = view(&state(), 5, Style::Plain);
        let line = text.lines().find(|line| line.starts_with("user=ann")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["user=ann", "shop.user", "12", "exact", "17/5", "0", "s", "ago"]);
        assert!(text.contains("3-12") && text.contains("refused 3/s"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let text = view(&state(), 5, Style::Plain);
        for expected in [
            "! the store is down\n",
            "! rules refused: a.yaml:3:5: unknown key 'x'\n",
            "! h:1 is silent: no answer\n",
            "store: Redis DOWN, p50 111 µs, p99 900 µs, 4 calls/s, 0 waiting",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("h:2"));
    }

    #[test]
    fn nothing_that_a_caller_sent_moves_the_cursor() {
        assert!(!view(&state(), 5, Style::Plain).contains('\u{1b}'));
        assert!(view(&state(), 5, Style::Colours).contains("user=·[2Jbob"));
    }

    #[test]
    fn tables_are_cut_to_their_rows_and_lines_to_their_columns() {
        let text = view(&state(), 1, Style::Plain);
        assert!(text.contains("… 1 more") && !text.contains("bob"));
        assert_eq!(cell("abcdef", 4, false), "abc… ");
        assert_eq!(cell("7", 4, true), "   7 ");
    }
}
