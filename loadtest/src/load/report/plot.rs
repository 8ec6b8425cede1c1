//! Lines over a plane, as SVG that follows the page's colours.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 46.0;

/// A line.
pub(super) struct Line {
    pub(super) name: String,
    /// Class that gives the colour: c0 to c5.
    pub(super) class: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plane.
pub(super) struct Plot<'t> {
    pub(super) title: &'t str,
    pub(super) x: &'t str,
    pub(super) y: &'t str,
    /// The vertical axis is logarithmic.
    pub(super) log: bool,
    pub(super) lines: Vec<Line>,
}

struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let (low, high, value) = if self.log {
            (self.low.ln(), self.high.ln(), value.max(self.low).ln())
        } else {
            (self.low, self.high, value)
        };
        self.from + (value - low) / (high - low) * (self.to - self.from)
    }

    /// About five round values.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = std::iter::successors(Some(self.low), |tick| Some(tick * 10.0));
            return decades.take_while(|tick| *tick <= self.high * 1.001).collect();
        }
        let raw = (self.high - self.low) / 5.0;
        let decade = 10.0_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw);
        let first = (self.low / step).ceil() * step;
        std::iter::successors(Some(first), |tick| Some(tick + step))
            .take_while(|tick| *tick <= self.high + step * 1e-6)
            .collect()
    }
}

impl Plot<'_> {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let most = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::MIN_POSITIVE, f64::max);
        let x = Axis { low: 0.0, high: most(|p| p.0), log: false, from: LEFT, to: WIDTH - RIGHT };
        let (mut low, mut high) = (0.0, most(|p| p.1) * 1.05);
        if self.log {
            let least = all().map(|p| p.1).filter(|y| *y > 0.0).fold(f64::MAX, f64::min).min(high);
            low = 10.0_f64.powf(least.log10().floor());
            high = 10.0_f64.powf(high.log10().ceil()).max(low * 10.0);
        }
        let y = Axis { low, high, log: self.log, from: HEIGHT - BOTTOM, to: TOP };
        let mut svg = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n",
            escaped(self.title),
            escaped(self.title)
        );
        self.axes(&mut svg, &x, &y);
        for line in &self.lines {
            draw(&mut svg, line, &x, &y);
        }
        svg.push_str("</svg>\n<p class=\"legend\">");
        for line in &self.lines {
            let _ = write!(svg, "<span class=\"c{}\">{}</span> ", line.class, escaped(&line.name));
        }
        svg.push_str("</p></figure>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let floor = HEIGHT - BOTTOM;
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                floor + 18.0,
                short(tick)
            );
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text x=\"14\" y=\"{}\" transform=\"rotate(-90 14 {})\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 8.0,
            escaped(self.x),
            f64::midpoint(TOP, floor),
            f64::midpoint(TOP, floor),
            escaped(self.y)
        );
    }
}

fn draw(svg: &mut String, line: &Line, x: &Axis, y: &Axis) {
    let mut points = String::new();
    for (across, up) in &line.points {
        let _ = write!(points, "{:.1},{:.1} ", x.place(*across), y.place(*up));
    }
    let dash = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let _ = writeln!(svg, "<polyline class=\"c{}\"{dash} points=\"{}\"/>", line.class, points.trim_end());
    if line.points.len() <= 30 && !line.dashed {
        for (across, up) in &line.points {
            let _ = write!(
                svg,
                "<circle class=\"c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                line.class,
                x.place(*across),
                y.place(*up)
            );
        }
    }
}

/// 12k, 1.5M, 0.25
fn short(value: f64) -> String {
    let rounded = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        size if size >= 1e6 => format!("{}M", rounded(value / 1e6)),
        size if size >= 1e3 => format!("{}k", rounded(value / 1e3)),
        _ => rounded(value),
    }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
