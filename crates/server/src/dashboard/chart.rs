//! Charts over time and of classes, as SVG in the page.
//!
//! The library draws with colours that are marks (`#000001`, `#000002` …), and the stylesheet says what they look like, in light and
//! dark: a rule wins against the attributes of a drawing. Each chart is drawn for three widths, since text
//! that is shrunk with its drawing cannot be read; one of them is shown. Beside each is a table of its figures.

use std::ops::Range;

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use plotters::{
    chart::{ChartBuilder, MeshStyle},
    coord::{
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
        types::RangedCoordf64,
    },
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{Circle, Polygon, Rectangle},
    prelude::{DrawingBackend, SVGBackend, SegmentValue},
    series::LineSeries,
    style::{Color as _, FontFamily, FontStyle, IntoFont as _, RGBColor, ShapeStyle, TextStyle},
};

use super::parts;

const TEXT: RGBColor = RGBColor(0, 0, 16);
const GRID: RGBColor = RGBColor(0, 0, 17);
const AXIS: RGBColor = RGBColor(0, 0, 18);
const BAND: RGBColor = RGBColor(0, 0, 15);

/// The sizes: for a whole page, for half of one, and for a phone.
const SIZES: [(&str, u32, u32); 3] = [
    ("wide", 1_040, 260),
    ("middle", 600, 230),
    ("narrow", 350, 220),
];

/// Values over time, in seconds since 1970; none where there is none to know.
pub(super) type Points<T> = Vec<(i64, Option<T>)>;

/// One line. A point without a value ends it: what is not known is not drawn.
pub(super) struct Line<'a> {
    /// What it is.
    pub name: &'a str,
    /// Seconds since 1970, and the value.
    pub points: Points<f64>,
}

/// A chart over time.
pub(super) struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// The same in a sentence with its main figures, for who does not see it.
    pub description: String,
    /// From when to when, in seconds since 1970.
    pub span: Range<i64>,
    /// What values range over, from the lowest to the highest.
    pub band: Option<(&'a str, Points<(f64, f64)>)>,
    /// The lines; they get the colours in this order.
    pub lines: Vec<Line<'a>>,
    /// Whether the axis begins at zero.
    pub from_zero: bool,
}

fn mark(series: usize) -> RGBColor {
    RGBColor(0, 0, u8::try_from(series % 8).unwrap_or_default() + 1)
}

impl Chart<'_> {
    /// Draws it.
    pub fn draw(&self) -> Markup {
        let values = self.values();
        let drawings = SIZES.map(|(class, width, height)| {
            let mut svg = String::new();
            let drawn = self.plot(
                SVGBackend::with_string(&mut svg, (width, height)),
                width,
                &values,
            );
            drawn
                .is_ok()
                .then(|| labelled(&svg, class, self.title, &self.description))
        });
        html! {
            figure.chart {
                @for drawing in drawings.into_iter().flatten() { (parts::drawing(drawing)) }
                figcaption { (self.legend()) }
            }
        }
    }

    fn legend(&self) -> Markup {
        let lines = self.lines.iter().enumerate();
        html! {
            ul.legend {
                @for (at, line) in lines {
                    li { svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { rect class=(format!("c{}", at % 8 + 1)) y="4" width="12" height="4" rx="2" {} } (line.name) }
                }
                @if let Some((name, _)) = &self.band {
                    li { svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { rect class="band" width="12" height="12" rx="3" {} } (name) }
                }
            }
        }
    }

    /// The range of values, with some air.
    fn values(&self) -> Range<f64> {
        let of_lines = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().filter_map(|point| point.1));
        let of_band = self.band.iter().flat_map(|(_, band)| band);
        let of_band = of_band
            .filter_map(|point| point.1)
            .flat_map(|(low, high)| [low, high]);
        let (mut low, mut high) = of_lines
            .chain(of_band)
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return 0.0..1.0;
        }
        if self.from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        let air = if high - low <= high.abs() * 1e-3 {
            // A flat line is in the middle, beside numbers that differ.
            (high.abs() * 0.1).max(0.5)
        } else {
            (high - low) * 0.06
        };
        let from = if self.from_zero && low >= 0.0 {
            0.0
        } else {
            low - air
        };
        from..high + air
    }

    fn plot<B: DrawingBackend>(
        &self,
        backend: B,
        width: u32,
        values: &Range<f64>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let root = backend.into_drawing_area();
        let axis = TimeAxis(self.span.clone());
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(24)
            .y_label_area_size(54)
            .build_cartesian_2d(axis, values.clone())?;
        let long = self.span.end - self.span.start;
        let ticks = match width {
            ..400 => 4,
            400..700 => 6,
            _ => 10,
        };
        style(&mut chart.configure_mesh())
            .x_labels(ticks)
            .x_label_formatter(&|at| tick(*at, long))
            .y_label_formatter(&|value| parts::number(*value))
            .draw()?;
        if let Some((_, band)) = &self.band {
            for run in runs(band) {
                let upper = run.iter().map(|(at, (_, high))| (*at, *high));
                let lower = run.iter().rev().map(|(at, (low, _))| (*at, *low));
                let outline: Vec<_> = upper.chain(lower).collect();
                chart.draw_series(std::iter::once(Polygon::new(outline, BAND.filled())))?;
            }
        }
        for (at, line) in self.lines.iter().enumerate() {
            let colour = mark(at);
            for run in runs(&line.points) {
                // A point that stands alone is no line.
                if let [alone] = run.as_slice() {
                    chart.draw_series(std::iter::once(Circle::new(*alone, 2, colour.filled())))?;
                } else {
                    chart.draw_series(LineSeries::new(run, colour.stroke_width(2)))?;
                }
            }
        }
        root.present()
    }
}

/// What stands together without a gap.
fn runs<T: Copy>(points: &[(i64, Option<T>)]) -> Vec<Vec<(i64, T)>> {
    let known = |run: &[(i64, Option<T>)]| -> Vec<(i64, T)> {
        run.iter()
            .filter_map(|(at, value)| Some((*at, (*value)?)))
            .collect()
    };
    let runs = points.split(|(_, value)| value.is_none()).map(known);
    runs.filter(|run| !run.is_empty()).collect()
}

fn style<'m, 'a, 'b, X, Y, DB>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, DB>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, DB>
where
    X: Ranged,
    Y: Ranged,
    DB: DrawingBackend,
{
    mesh.disable_x_mesh()
        .light_line_style(ShapeStyle {
            color: GRID.mix(0.0),
            filled: false,
            stroke_width: 0,
        })
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .y_labels(5)
        .label_style(text())
}

fn text() -> TextStyle<'static> {
    let font = (FontFamily::SansSerif, 12, FontStyle::Normal).into_font();
    TextStyle::from(font).color(&TEXT)
}

/// Bars of classes.
pub(super) fn bars(title: &str, description: &str, classes: &[(String, f64)]) -> Markup {
    let drawings = SIZES.map(|(class, width, height)| {
        let mut svg = String::new();
        let drawn = plot_bars(
            SVGBackend::with_string(&mut svg, (width, height)),
            width,
            classes,
        );
        drawn
            .is_ok()
            .then(|| labelled(&svg, class, title, description))
    });
    html! {
        figure.chart { @for drawing in drawings.into_iter().flatten() { (parts::drawing(drawing)) } }
    }
}

fn plot_bars<B: DrawingBackend>(
    backend: B,
    width: u32,
    classes: &[(String, f64)],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    use plotters::coord::ranged1d::IntoSegmentedCoord as _;
    let root = backend.into_drawing_area();
    let highest = classes
        .iter()
        .map(|(_, value)| *value)
        .fold(0.0, f64::max)
        .max(1.0);
    let mut chart = ChartBuilder::on(&root)
        .margin(6)
        .x_label_area_size(24)
        .y_label_area_size(54)
        .build_cartesian_2d((0..classes.len()).into_segmented(), 0.0..highest * 1.06)?;
    // Names that would touch each other are left out.
    let room = usize::try_from(width / 62).unwrap_or(1).max(1);
    let every = classes.len().div_ceil(room).max(1);
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) if at.is_multiple_of(every) => classes
            .get(*at)
            .map(|class| class.0.clone())
            .unwrap_or_default(),
        _ => String::new(),
    };
    style(&mut chart.configure_mesh())
        .x_labels(classes.len())
        .x_label_formatter(&name)
        .y_label_formatter(&|value| parts::number(*value))
        .draw()?;
    let bars = classes.iter().enumerate().map(|(at, (_, value))| {
        let corners = [
            (SegmentValue::Exact(at), 0.0),
            (SegmentValue::Exact(at + 1), *value),
        ];
        let mut bar = Rectangle::new(corners, mark(0).filled());
        bar.set_margin(0, 0, 3, 3);
        bar
    });
    chart.draw_series(bars)?;
    root.present()
}

/// The drawing with what it is in words; its size is the stylesheet's.
fn labelled(svg: &str, class: &str, title: &str, description: &str) -> String {
    let words = html! { title { (title) } desc { (description) } }.into_string();
    let label = html! { span aria-label=(format!("{title}. {description}")) {} }.into_string();
    let label = label
        .trim_start_matches("<span ")
        .trim_end_matches("></span>")
        .to_owned();
    svg.replacen(
        "<svg ",
        &format!("<svg class=\"{class}\" role=\"img\" {label} "),
        1,
    )
    .replacen(">\n", &format!(">\n{words}"), 1)
}

/// What stands at a place of the axis: as much of the time as tells places apart.
fn tick(at: i64, long: i64) -> String {
    let format = match long {
        0..=172_800 => "%H:%M",
        172_801..=7_776_000 => "%b %-d",
        _ => "%b %Y",
    };
    DateTime::<Utc>::from_timestamp(at, 0)
        .map_or_else(String::new, |at| at.format(format).to_string())
}

/// Time from left to right, in seconds, with marks at whole minutes, hours and days.
struct TimeAxis(Range<i64>);

/// What marks may be apart, in seconds.
const STEPS: [i64; 16] = [
    60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
    2_592_000, 7_776_000, 15_552_000,
];

impl Ranged for TimeAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = i64;

    fn map(&self, value: &i64, limit: (i32, i32)) -> i32 {
        let share = |at: i64| (at - self.0.start) as f64;
        let long = share(self.0.end).max(1.0);
        RangedCoordf64::from(0.0..long).map(&share(*value), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<i64> {
        let most = i64::try_from(hint.max_num_points()).unwrap_or(1).max(1);
        let long = self.0.end - self.0.start;
        let step = STEPS
            .into_iter()
            .find(|step| long / step < most)
            .unwrap_or(31_536_000);
        let first = self.0.start.div_euclid(step) * step;
        (0..=most + 1)
            .map(|n| first + n * step)
            .filter(|at| self.0.contains(at) || *at == self.0.end)
            .collect()
    }

    fn range(&self) -> Range<i64> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart<'static> {
        Chart {
            title: "Fees <b>",
            description: "a \"quoted\" one".to_owned(),
            span: 0..86_400,
            band: Some((
                "least to most",
                vec![(0, Some((1.0, 3.0))), (3_600, Some((1.0, 4.0)))],
            )),
            lines: vec![Line {
                name: "p50",
                points: vec![
                    (0, Some(1.0)),
                    (3_600, Some(2.0)),
                    (7_200, None),
                    (10_800, Some(1.5)),
                ],
            }],
            from_zero: true,
        }
    }

    #[test]
    fn a_chart_has_its_words_escaped_and_its_colours_as_marks() {
        let html = chart().draw().into_string();
        assert!(html.contains("role=\"img\"") && html.contains("<title>Fees &lt;b&gt;</title>"));
        assert!(
            html.contains("aria-label=\"Fees &lt;b&gt;. a &quot;quoted&quot; one\""),
            "{html}"
        );
        assert!(html.contains("stroke=\"#000001\"") && html.contains("fill=\"#00000F\""));
        assert!(!html.contains("style=") && !html.contains("<b>"));
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let lines = chart();
        assert_eq!(
            runs(&lines.lines[0].points),
            [vec![(0, 1.0), (3_600, 2.0)], vec![(10_800, 1.5)]]
        );
        let html = lines.draw().into_string();
        // In each of the three drawings one line of two points, and a point that stands alone.
        assert_eq!(
            html.matches("stroke=\"#000001\" stroke-width=\"2\"")
                .count(),
            3
        );
        assert_eq!(html.matches("<circle").count(), 3);
    }

    #[test]
    fn nothing_known_is_an_empty_chart() {
        let mut empty = chart();
        empty.band = None;
        empty.lines[0].points = vec![(0, None)];
        assert!(empty.draw().into_string().contains("<svg"));
        assert_eq!(empty.values(), 0.0..1.0);
        let bars = bars("Waits", "none", &[("1 ms".to_owned(), 0.0)]).into_string();
        assert!(bars.contains("1 ms"));
    }
}
