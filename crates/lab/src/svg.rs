//! Two kinds of plots as SVG, written by hand: grouped bars, and lines over time with marked moments. Colours and fonts
//! are fixed, so that a picture reads the same on a white page anywhere.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const PANEL: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
/// Told apart by people who see colours differently (Okabe and Ito).
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];

/// One panel of a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Panel {
    /// Bars in groups, e.g. one group per number of peers.
    Bars {
        /// Above the panel.
        title: String,
        /// Of the vertical axis.
        unit: String,
        /// Names under the groups.
        groups: Vec<String>,
        /// Name and one value per group; `None` leaves the place empty.
        series: Vec<(String, Vec<Option<f64>>)>,
    },
    /// Lines over seconds.
    Lines {
        /// Above the panel.
        title: String,
        /// Of the vertical axis.
        unit: String,
        /// Name and points (seconds, value).
        series: Vec<(String, Vec<(f64, f64)>)>,
        /// Moments worth a mark: seconds and a word.
        marks: Vec<(f64, String)>,
    },
}

/// The panels below one another, as a whole SVG document.
pub fn document(panels: &[Panel]) -> String {
    let height = PANEL * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", PANEL * i as f64);
        match panel {
            Panel::Bars {
                title,
                unit,
                groups,
                series,
            } => bars(&mut out, title, unit, groups, series),
            Panel::Lines {
                title,
                unit,
                series,
                marks,
            } => lines(&mut out, title, unit, series, marks),
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn bars(
    out: &mut String,
    title: &str,
    unit: &str,
    groups: &[String],
    series: &[(String, Vec<Option<f64>>)],
) {
    let top = nice_top(series.iter().flat_map(|(_, v)| v.iter().flatten().copied()));
    frame(
        out,
        title,
        unit,
        top,
        series.iter().map(|(name, _)| name.as_str()),
    );
    let group_width = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    let bar = group_width * 0.8 / series.len().max(1) as f64;
    for (g, name) in groups.iter().enumerate() {
        let x = LEFT + group_width * g as f64;
        text(
            out,
            x + group_width / 2.0,
            PANEL - BOTTOM + 18.0,
            "middle",
            name,
        );
        for (s, (_, values)) in series.iter().enumerate() {
            let Some(value) = values.get(g).copied().flatten() else {
                continue;
            };
            let at = x + group_width * 0.1 + bar * s as f64;
            let y = y_of(value, top);
            let _ = writeln!(
                out,
                "<rect class=\"bar\" x=\"{at:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                bar * 0.9,
                PANEL - BOTTOM - y,
                COLOURS[s % COLOURS.len()]
            );
            // A bar that is much narrower than its figure goes without: its neighbours' would lie over it.
            if bar >= 25.0 || series.len() == 1 {
                text(out, at + bar * 0.45, y - 4.0, "middle", &short(value));
            }
        }
    }
}

fn lines(
    out: &mut String,
    title: &str,
    unit: &str,
    series: &[(String, Vec<(f64, f64)>)],
    marks: &[(f64, String)],
) {
    let top = nice_top(series.iter().flat_map(|(_, p)| p.iter().map(|(_, v)| *v)));
    frame(
        out,
        title,
        unit,
        top,
        series.iter().map(|(name, _)| name.as_str()),
    );
    let points = series.iter().flat_map(|(_, p)| p.iter().map(|(t, _)| *t));
    let end = points
        .chain(marks.iter().map(|(t, _)| *t))
        .fold(1.0, f64::max);
    let x_of = |t: f64| LEFT + (WIDTH - LEFT - RIGHT) * t / end;
    for (i, (t, word)) in marks.iter().enumerate() {
        let x = x_of(*t);
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#999\" \
             stroke-dasharray=\"3 3\"/>",
            PANEL - BOTTOM
        );
        // Three rows, so that neighbours do not cover one another.
        text(
            out,
            x + 3.0,
            TOP + 11.0 + 13.0 * (i % 3) as f64,
            "start",
            word,
        );
    }
    for (s, (_, points)) in series.iter().enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|(t, v)| format!("{:.1},{:.1}", x_of(*t), y_of(*v, top)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"{}\" points=\"{}\"/>",
            COLOURS[s % COLOURS.len()],
            path.join(" ")
        );
    }
    for step in 0..=6 {
        let t = end * f64::from(step) / 6.0;
        text(
            out,
            x_of(t),
            PANEL - BOTTOM + 18.0,
            "middle",
            &format!("{t:.0} s"),
        );
    }
}

fn frame<'a>(
    out: &mut String,
    title: &str,
    unit: &str,
    top: f64,
    names: impl Iterator<Item = &'a str>,
) {
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text>",
        escape(title)
    );
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let y = y_of(value, top);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
        text(out, LEFT - 6.0, y + 4.0, "end", &short(value));
    }
    text(out, 8.0, TOP - 16.0, "start", unit);
    let mut x = LEFT;
    for (i, name) in names.enumerate() {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{}\"/>",
            COLOURS[i % COLOURS.len()]
        );
        text(out, x + 14.0, 39.0, "start", name);
        x += 34.0 + 6.4 * name.chars().count() as f64;
    }
}

fn y_of(value: f64, top: f64) -> f64 {
    PANEL - BOTTOM - (PANEL - BOTTOM - TOP) * value / top
}

/// The next of 1, 2, 4, 8 x 10^n at or above the largest value.
fn nice_top(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0, f64::max);
    if largest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(largest.log10().floor());
    [1.0, 2.0, 4.0, 8.0]
        .into_iter()
        .map(|m| m * power)
        .find(|top| *top >= largest)
        .unwrap_or(10.0 * power)
}

/// Three digits and a letter for thousands and millions.
fn short(value: f64) -> String {
    let (scaled, letter) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = if scaled >= 100.0 || scaled.fract() == 0.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{letter}")
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(words)
    );
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element that is opened is closed, in order, and no bare `&` or `<` is left in texts.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, rest) = piece.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes pair up in <{tag}>");
            assert!(!rest.contains('>'), "a bare > after <{tag}>");
            for (at, _) in rest.match_indices('&') {
                assert!(
                    ["&amp;", "&lt;", "&gt;", "&quot;"]
                        .iter()
                        .any(|e| rest[at..].starts_with(e))
                );
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap_or(tag));
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn bars_are_one_per_value_and_missing_values_leave_a_gap() {
        let svg = document(&[Panel::Bars {
            title: "Time until \"everybody\" receives <all> & more".into(),
            unit: "ms".into(),
            groups: vec!["5".into(), "7".into(), "10".into()],
            series: vec![
                ("here".into(), vec![Some(20.0), None, Some(0.0)]),
                (
                    "published".into(),
                    vec![Some(80.0), Some(163.0), Some(200.0)],
                ),
            ],
        }]);
        assert_well_formed(&svg);
        assert_eq!(svg.matches("class=\"bar\"").count(), 5);
    }

    #[test]
    fn lines_have_a_point_per_sample_and_a_mark_per_moment() {
        let svg = document(&[
            Panel::Lines {
                title: "Bandwidth".into(),
                unit: "bit/s".into(),
                series: vec![("sent".into(), vec![(0.0, 1.0), (1.0, 2e6), (2.0, 5e5)])],
                marks: vec![(0.5, "join".into()), (1.5, "leave".into())],
            },
            Panel::Lines {
                title: "Empty".into(),
                unit: "bit/s".into(),
                series: vec![],
                marks: vec![],
            },
        ]);
        assert_well_formed(&svg);
        assert_eq!(svg.matches("class=\"mark\"").count(), 2);
        let points = svg
            .split("points=\"")
            .nth(1)
            .and_then(|p| p.split('"').next())
            .unwrap();
        assert_eq!(points.split(' ').count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn axes_end_on_round_numbers_and_labels_are_short() {
        assert_eq!(nice_top([163.0].into_iter()), 200.0);
        assert_eq!(nice_top([9.0].into_iter()), 10.0);
        assert_eq!(nice_top([].into_iter()), 1.0);
        assert_eq!(short(1_250_000.0), "1.25M");
        assert_eq!(short(163.4), "163");
        assert_eq!(short(0.5), "0.50");
    }
}
