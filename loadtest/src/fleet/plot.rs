//! Load sent against capacity, second by second, as SVG.

use std::fmt::Write;

use tollgate_core::time::Time;

use super::backend::Backend;
use super::measure::Measured;
use super::scenario::OUTAGE_AT;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const GAP: f64 = 46.0;
/// Seconds shown before the outage.
const BEFORE: u64 = 10;
/// Calls per second at the upper edge of a panel.
const MOST: f64 = 1_400.0;

/// One picture: a panel for each play, in order, under a common `title`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a handful of panels")]
pub fn picture(title: &str, plays: &[Measured]) -> String {
    let height = TOP + plays.len() as f64 * (PANEL + GAP) + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    );
    legend(&mut svg);
    for (index, play) in plays.iter().enumerate() {
        panel(&mut svg, TOP + GAP + index as f64 * (PANEL + GAP), play);
    }
    svg.push_str("</svg>\n");
    svg
}

const WITHIN: &str = "#5b8fd9";
const BEYOND: &str = "#d9483b";
const GOOD: &str = "#1d6b3a";

fn legend(svg: &mut String) {
    let entries =
        [(WITHIN, "sent"), (BEYOND, "sent beyond capacity"), (GOOD, "answered"), ("#222222", "capacity")];
    let mut x = LEFT;
    for (colour, text) in entries {
        put(svg, format_args!("<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"10\" fill=\"{colour}\"/>\n"));
        put(svg, format_args!("<text x=\"{}\" y=\"41\">{text}</text>\n", x + 17.0));
        x += 160.0;
    }
}

/// Writing to a string does not fail.
fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let _written = svg.write_fmt(text);
}

/// Where seconds and rates lie in a panel.
struct Frame {
    top: f64,
    from: u64,
    until: u64,
}

#[expect(clippy::cast_precision_loss, reason = "seconds and rates are small")]
impl Frame {
    fn second(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / (self.until - self.from) as f64
    }

    fn x(&self, second: u64) -> f64 {
        LEFT + (second.saturating_sub(self.from)) as f64 * self.second()
    }

    fn y(&self, rate: f64) -> f64 {
        self.top + PANEL * (1.0 - rate.min(MOST) / MOST)
    }

    fn bar(&self, svg: &mut String, second: u64, (low, high): (f64, f64), colour: &str) {
        let (x, y) = (self.x(second), self.y(high));
        let (width, height) = (self.second() * 0.92, self.y(low) - self.y(high));
        put(
            svg,
            format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>\n"
            ),
        );
    }

    fn line(&self, svg: &mut String, rates: &[f64], colour: &str) {
        let half = self.second() / 2.0;
        let mut points = String::new();
        for (second, rate) in (self.from..self.until).zip(rates) {
            put(&mut points, format_args!("{:.1},{:.1} ", self.x(second) + half, self.y(*rate)));
        }
        put(
            svg,
            format_args!(
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\n"
            ),
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts per second are small")]
fn panel(svg: &mut String, top: f64, play: &Measured) {
    let scenario = &play.scenario;
    let over = OUTAGE_AT + scenario.outage;
    let frame = Frame { top, from: OUTAGE_AT - BEFORE, until: over + scenario.recovery_secs() };
    let seconds: Vec<u64> = (frame.from..frame.until).collect();
    let capacity: Vec<f64> = seconds
        .iter()
        .map(|s| Backend::capacity(scenario, Time::from_micros(s * 1_000_000 + 500_000)))
        .collect();
    let at = |second: u64| usize::try_from(second).ok().and_then(|s| play.seconds.get(s)).copied();
    let good: Vec<f64> = seconds.iter().map(|s| at(*s).unwrap_or_default().good as f64).collect();
    for (second, capacity) in seconds.iter().zip(&capacity) {
        let sent = at(*second).unwrap_or_default().sent as f64;
        frame.bar(svg, *second, (0.0, sent.min(*capacity)), WITHIN);
        if sent > *capacity {
            frame.bar(svg, *second, (*capacity, sent), BEYOND);
        }
    }
    frame.line(svg, &capacity, "#222222");
    frame.line(svg, &good, GOOD);
    axes(svg, &frame);
    let text = format!(
        "{}: {} doomed, peak {:.2} × capacity, {} lost, {} failed",
        scenario.policy.name(),
        play.doomed,
        play.peak,
        play.lost,
        play.failed
    );
    put(svg, format_args!("<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{text}</text>\n", top - 6.0));
}

fn axes(svg: &mut String, frame: &Frame) {
    for rate in [0.0, 500.0, 1_000.0] {
        let y = frame.y(rate);
        put(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#cccccc\" stroke-width=\"0.7\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}/s</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            ),
        );
    }
    for second in (frame.from..=frame.until).filter(|second| second % 10 == 0) {
        let (x, y) = (frame.x(second), frame.top + PANEL + 14.0);
        put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{second} s</text>\n"));
    }
}
