use std::io::Write as _;

use serde_json::Value;

use super::{folder, path, run};

const CURRENT: &str =
    "domain: d\ndescriptors:\n  - key: user\n    rate_limit: { unit: minute, requests_per_unit: 10 }\n";
const PROPOSED: &str = "domain: d\ndescriptors:\n  - key: user\n    rate_limit: { name: new, unit: minute, requests_per_unit: 4 }\n  - key: user\n    value: vip\n    rate_limit: { unlimited: true }\n";

/// A request of `user` this many seconds after a full minute.
fn line(user: &str, second: u32) -> String {
    let time = 1_700_000_040 + second;
    format!(
        "{{\"time\": {time}, \"domain\": \"d\", \"descriptors\": [{{\"entries\": [{{\"key\": \"user\", \"value\": \"{user}\"}}]}}]}}\n"
    )
}

fn both(log: &[u8], more: &[&str]) -> (i32, String, String) {
    let text = [("now/a.yaml", CURRENT), ("next/a.yaml", PROPOSED)];
    let folder = folder(&text);
    std::fs::write(folder.path().join("log"), log).unwrap();
    let (log, now, next) = (path(&folder, "log"), path(&folder, "now"), path(&folder, "next"));
    run(&[&["replay", log.as_str(), "--rules", &now, "--proposed", &next], more].concat())
}

fn json(log: &[u8], more: &[&str]) -> Value {
    let (code, out, err) = both(log, &[more, &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// 12 requests of ann and 15 of a vip in one minute, 6 of bob in the next.
fn log() -> String {
    let minute =
        (0..12).map(|second| line("ann", second)).chain((0..15).map(|second| line("vip", second + 20)));
    minute.chain((0..6).map(|second| line("bob", second + 60))).collect()
}

#[test]
fn who_is_newly_refused_and_who_is_newly_allowed() {
    let report = json(log().as_bytes(), &[]);
    let expected = serde_json::json!({
        "requests": 33, "refused_before": 7, "refused_after": 10, "newly_refused": 8, "newly_allowed": 5,
        "would_refuse": 0,
    });
    assert_eq!(report["total"], expected);
    let top = report["top_refused"].as_array().unwrap();
    assert_eq!(top[0], serde_json::json!({ "key": "user=ann", "rule": "d.user", "count": 6, "error": 0 }));
    assert_eq!((&top[1]["key"], &top[1]["count"]), (&"user=bob".into(), &2.into()));
    assert_eq!(report["top_allowed"][0]["key"], "user=vip");
}

#[test]
fn rows_by_time() {
    let report = json(log().as_bytes(), &["--bucket", "1m"]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["begin"], "2023-11-14T22:14:00Z");
    assert_eq!(
        (&rows[0]["counts"]["newly_refused"], &rows[1]["counts"]["newly_refused"]),
        (&6.into(), &2.into())
    );
}

#[test]
fn packed_with_gzip_it_is_the_same() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(log().as_bytes()).unwrap();
    assert_eq!(json(&packed.finish().unwrap(), &[]), json(log().as_bytes(), &[]));
}

#[test]
fn lines_out_of_order_are_sorted_within_the_window() {
    let seconds = [3, 0, 1, 2, 9, 12, 4];
    let text: String = seconds.into_iter().map(|second| line("ann", second)).collect();
    let report = json(text.as_bytes(), &["--window", "10s"]);
    assert_eq!(report["out_of_order"], serde_json::json!({ "all": 4, "too_late": 0 }));
    let report = json(text.as_bytes(), &["--window", "1s"]);
    assert_eq!(report["out_of_order"]["too_late"], 1, "second 4 comes after second 9 has been decided");
    assert_eq!(report["total"]["requests"], 7, "none is lost");
}

#[test]
fn bad_lines_are_counted_and_the_first_are_shown() {
    let text = format!("nonsense\n\n{}{{\"time\": 1}}\n", line("ann", 1));
    let (code, out, _) = both(text.as_bytes(), &[]);
    assert_eq!(code, 0);
    assert!(out.contains("bad lines                  2"), "{out}");
    assert!(out.contains("log:1: neither JSON nor an access log") && out.contains("log:4: "), "{out}");
}

#[test]
fn an_access_log_of_envoy_with_a_mapping() {
    let request = |second: u32| {
        format!(
            "[2026-01-01T00:00:{second:02}.000Z] \"GET /a?u=ann HTTP/1.1\" 200 - 0 2 1 - \"10.0.0.1\" \"curl\" \"id\" \"host\" \"10.0.0.9:80\"\n"
        )
    };
    let text: String = (0..6).map(request).collect();
    let report = json(text.as_bytes(), &["--domain", "d", "--map", "user=query:u"]);
    assert_eq!((&report["total"]["requests"], &report["total"]["newly_refused"]), (&6.into(), &2.into()));
    assert_eq!(report["top_refused"][0]["key"], "user=ann");
    let (code, out, _) = both(text.as_bytes(), &[]);
    assert_eq!(code, 0);
    assert!(out.contains("no domain: use --domain"), "{out}");
}

#[test]
fn a_report_for_people_and_a_picture() {
    let folder = folder(&[]);
    let plot = path(&folder, "plot.svg");
    let (code, out, _) = both(log().as_bytes(), &["--plot", &plot]);
    assert_eq!(code, 0);
    for said in [
        "newly refused              8  24.2%",
        "top keys newly refused",
        "6  user=ann  by d.user",
        "by time, each row",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    let drawn = std::fs::read_to_string(&plot).unwrap();
    assert!(
        drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n") && drawn.matches("<polyline").count() == 5
    );
}

#[test]
fn bad_arguments_are_named() {
    for (arguments, said) in [
        (&["--window", "long"][..], "--window"),
        (&["--bucket", "0s"], "--bucket"),
        (&["--map", "user=cookie:a"], "unknown source"),
        (&["--map", "user"], "is not KEY=SOURCE"),
    ] {
        let (code, _, err) = both(b"", arguments);
        assert_eq!(code, 2, "{arguments:?}");
        assert!(err.contains(said), "{err}");
    }
    let (code, _, err) = run(&["replay", "/nowhere", "--rules", "/nowhere/at/all"]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot read the rules folder"), "{err}");
}
