//! Drawings as SVG: lines over an axis, and bars with whiskers.
//!
//! Two kinds are all that reports need, so they are written here, without a library whose next
//! version would move a line. What is drawn is rounded to tenths of a pixel; the same numbers give
//! the same bytes.

use std::fmt::Write as _;

use super::compare::shown;
use super::stats::Interval;

/// What is drawn, and along which axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chart<'c> {
    pub(super) title: &'c str,
    pub(super) x: &'c str,
    pub(super) y: &'c str,
}

/// A line with its name.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) kind: Kind,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From point to point.
    Plain,
    /// In grey and dashed: what others are measured by.
    Bound,
}

/// A bar with its name.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

/// Colours that people tell apart who do not see all of them: Okabe and Ito (2008).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d00"];

/// Of more lines than colours, the later ones are dashed, each round in another way.
const DASHES: [&str; 4] = ["", "7 3", "2 3", "10 3 2 3"];

const WIDTH: f64 = 760.0;
/// The area within the axes of lines.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 290.0;

/// A line is drawn with so many points at most: more than there are pixels.
const POINTS_MAX: usize = 800;

/// Characters of a name that are shown; all of it is in its title.
const NAME_MAX: usize = 30;

/// Names in one row of a legend.
const NAMES_PER_ROW: usize = 3;

/// Text as it may stand in HTML and SVG, within an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            // XML has no way to say them.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Lines over an axis, with a legend below; empty where there is no point.
pub(super) fn lines(chart: Chart<'_>, lines: &[Line]) -> String {
    let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let points = || lines.iter().flat_map(|line| &line.points).filter(finite);
    let Some(x) = Axis::of(points().map(|point| point.0)) else { return String::new() };
    let Some(y) = Axis::of(points().map(|point| point.1).chain([0.0])) else {
        return String::new();
    };
    let rows = lines.len().div_ceil(NAMES_PER_ROW) as f64;
    let mut svg = begin(chart.title, BOTTOM + 50.0 + 18.0 * rows);
    svg.push_str(&x.below((LEFT, RIGHT), BOTTOM));
    for tick in &y.ticks {
        let at = y.place(*tick, BOTTOM, TOP);
        let label = y.label(*tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT:.1} {at:.1}H{RIGHT:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 34.0,
        escape(chart.x),
        (TOP + BOTTOM) / 2.0,
        escape(chart.y)
    );
    for (nth, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (x_at, y_at) in thinned(&line.points).iter().filter(finite) {
            let step = if path.is_empty() { 'M' } else { 'L' };
            let (x, y) = (x.place(*x_at, LEFT, RIGHT), y.place(*y_at, BOTTOM, TOP));
            let _ = write!(path, "{step}{x:.1} {y:.1}");
        }
        let stroke = stroke(nth, line.kind);
        let _ = writeln!(svg, "<path class=\"line\" {stroke} d=\"{path}\"/>");
        let left = LEFT + (nth % NAMES_PER_ROW) as f64 * 226.0;
        let top = BOTTOM + 56.0 + 18.0 * (nth / NAMES_PER_ROW) as f64;
        let _ = writeln!(
            svg,
            "<path class=\"line\" {stroke} d=\"M{left:.1} {top:.1}h24\"/>{}",
            named(&line.name, left + 30.0, top + 4.0, "start")
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Bars one below the other, each with a whisker for its interval; empty where there is none.
pub(super) fn bars(chart: Chart<'_>, bars: &[Bar]) -> String {
    const NAMES: f64 = 230.0;
    let bars: Vec<&Bar> = bars.iter().filter(|bar| bar.value.is_finite()).collect();
    let ends = bars.iter().filter_map(|bar| bar.interval).flat_map(|i| [i.low, i.high]);
    let Some(axis) = Axis::of(bars.iter().map(|bar| bar.value).chain(ends).chain([0.0])) else {
        return String::new();
    };
    if bars.is_empty() {
        return String::new();
    }
    let bottom = TOP + 24.0 * bars.len() as f64;
    let right = RIGHT - 70.0;
    let mut svg = begin(chart.title, bottom + 44.0);
    svg.push_str(&axis.below((NAMES, right), bottom));
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (NAMES + right) / 2.0,
        bottom + 34.0,
        escape(chart.x)
    );
    for (nth, bar) in bars.iter().enumerate() {
        let top = TOP + 24.0 * nth as f64 + 4.0;
        let [zero, end] = [0.0, bar.value].map(|value| axis.place(value, NAMES, right));
        let (from, width) = (zero.min(end), (end - zero).abs());
        let colour = COLOURS[nth % COLOURS.len()];
        let _ = writeln!(
            svg,
            "{}<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"16\" \
             fill=\"{colour}\" fill-opacity=\"0.75\"/>",
            named(&bar.name, NAMES - 8.0, top + 12.0, "end")
        );
        let mut after = end.max(zero);
        if let Some(Interval { low, high }) = bar.interval {
            let [low, high] = [low, high].map(|value| axis.place(value, NAMES, right));
            let middle = top + 8.0;
            let _ = writeln!(
                svg,
                "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8\
                 M{high:.1} {:.1}v8\"/>",
                middle - 4.0,
                middle - 4.0
            );
            after = after.max(high);
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            after + 6.0,
            top + 12.0,
            shown(bar.value)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn begin(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n\
         <style>.grid{{stroke:#ddd;fill:none}}.line{{fill:none;stroke-width:1.6}}\
         .whisker{{stroke:#222;stroke-width:1.4;fill:none}}</style>\n\
         <rect width=\"{WIDTH:.0}\" height=\"{height:.0}\" fill=\"#fff\"/>\n\
         <text x=\"{:.0}\" y=\"18\" font-size=\"14\" text-anchor=\"middle\">{title}</text>\n",
        WIDTH / 2.0
    )
}

fn named(name: &str, x: f64, y: f64, anchor: &str) -> String {
    let mut short: String = name.chars().take(NAME_MAX).collect();
    if name.chars().nth(NAME_MAX).is_some() {
        short.push('…');
    }
    let (short, name) = (escape(&short), escape(name));
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"><title>{name}</title>{short}</text>"
    )
}

fn stroke(nth: usize, kind: Kind) -> String {
    if kind == Kind::Bound {
        return "stroke=\"#888\" stroke-dasharray=\"4 4\"".to_owned();
    }
    let colour = COLOURS[nth % COLOURS.len()];
    match DASHES[nth / COLOURS.len() % DASHES.len()] {
        "" => format!("stroke=\"{colour}\""),
        dash => format!("stroke=\"{colour}\" stroke-dasharray=\"{dash}\""),
    }
}

/// Of too many points every second one, or third, and so on; the last one always.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let mut thinned: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    if let Some(last) = points.last()
        && thinned.last() != Some(last)
    {
        thinned.push(*last);
    }
    thinned
}

/// A range of numbers with marks at round ones.
#[derive(Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    decimals: usize,
}

impl Axis {
    /// An axis that holds all of these; none of nothing.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let ends = values.filter(|value| value.is_finite()).fold(None, |ends, value| match ends {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        });
        let (low, high) = ends?;
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        // The least of 1, 2 and 5 times a power of ten that makes at most six steps.
        let (mut power, mut decimals) = (1.0, 0);
        while span / power > 10.0 && power < 1e300 {
            power *= 10.0;
        }
        while span / power <= 1.0 && decimals < 300 {
            power /= 10.0;
            decimals += 1;
        }
        let steps = [0.2, 0.5, 1.0, 2.0, 5.0].map(|times| times * power);
        let step = steps.into_iter().find(|step| span / step <= 6.0).unwrap_or(power * 5.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let (low, high) = (first * step, (last.max(first + 1.0)) * step);
        let count = (high / step - first).round() as u32;
        let ticks = (0..=count.min(20)).map(|nth| (first + f64::from(nth)) * step).collect();
        let decimals = if step < power { decimals + 1 } else { decimals };
        Some(Self { low, high, ticks, decimals: if power > 1.0 { 0 } else { decimals } })
    }

    /// Where a number lies between two places.
    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }

    /// Its marks as lines from the top, each with its number below.
    fn below(&self, (from, to): (f64, f64), bottom: f64) -> String {
        let mut svg = String::new();
        for tick in &self.ticks {
            let at = self.place(*tick, from, to);
            let label = self.label(*tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP:.1}V{bottom:.1}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            );
        }
        svg
    }

    fn label(&self, tick: f64) -> String {
        if self.decimals > 6 { shown(tick) } else { format!("{tick:.*}", self.decimals) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::of(values.iter().copied()).unwrap();
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(labels(&[0.0, 1.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[0.0, 47.0]), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&[0.0, 1100.0]), ["0", "200", "400", "600", "800", "1000", "1200"]);
        assert_eq!(labels(&[0.31, 0.34]), ["0.31", "0.32", "0.33", "0.34"]);
        assert_eq!(labels(&[0.0, 0.021]), ["0.000", "0.005", "0.010", "0.015", "0.020", "0.025"]);
        assert_eq!(Axis::of(std::iter::empty()), None);
        assert_eq!(Axis::of([f64::NAN].into_iter()), None);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let hostile = "</text><script>\"'&\u{1}\u{0}";
        let line = Line { name: hostile.to_owned(), points: vec![(0.0, 1.0)], kind: Kind::Plain };
        let bar = Bar { name: hostile.to_owned(), value: 1.0, interval: None };
        let chart = Chart { title: hostile, x: hostile, y: hostile };
        for svg in [lines(chart, &[line]), bars(chart, &[bar])] {
            assert!(!svg.contains("<script") && !svg.contains('\u{1}'), "{svg}");
            assert!(svg.contains("&lt;/text&gt;&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}"));
        }
    }

    #[test]
    fn points_are_where_their_numbers_are() {
        let points = vec![(0.0, 0.0), (5.0, 10.0), (f64::NAN, 1.0), (10.0, 5.0)];
        let line = Line { name: "a".to_owned(), points, kind: Kind::Plain };
        let svg = lines(Chart { title: "t", x: "x", y: "y" }, &[line]);
        // 676 pixels wide and 260 high.
        assert!(svg.contains("d=\"M64.0 290.0L402.0 30.0L740.0 160.0\""), "{svg}");
        assert_eq!(lines(Chart { title: "t", x: "x", y: "y" }, &[]), "");
        let interval = Some(Interval { low: 1.0, high: 3.0 });
        let bar = Bar { name: "b".to_owned(), value: 2.0, interval };
        let svg = bars(Chart { title: "t", x: "x", y: "y" }, &[bar]);
        // 0 is at 230, 3 at 670.
        assert!(svg.contains("x=\"230.0\" y=\"34.0\" width=\"293.3\""), "{svg}");
        assert!(svg.contains("M376.7 42.0H670.0"), "{svg}");
    }

    proptest! {
        #[test]
        fn an_axis_holds_its_values_with_few_marks(
            values in prop::collection::vec(-1e9..1e9_f64, 1..5),
            size in -12_i32..12,
        ) {
            let scaled = || values.iter().map(|value| value * 10_f64.powi(size));
            let axis = Axis::of(scaled()).unwrap();
            prop_assert!((2..=9).contains(&axis.ticks.len()), "{:?}", axis);
            prop_assert!(axis.ticks.windows(2).all(|pair| pair[0] < pair[1]));
            for value in scaled() {
                let place = axis.place(value, 0.0, 1.0);
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&place), "{} {:?}", place, axis);
            }
        }
    }
}
