//! Tables and bars, as commands print them.

/// How long the longest bar of a chart is.
const BAR: usize = 30;

/// The side on which a column's cells stand.
#[derive(Clone, Copy)]
pub enum Side {
    Left,
    Right,
}

/// A table whose columns are as wide as their widest cell.
pub fn table<const N: usize>(columns: [(&str, Side); N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|index| {
        let cells = rows.iter().map(|row| row[index].chars().count());
        cells.max().unwrap_or(0).max(columns[index].0.len())
    });
    let names = columns.map(|(name, _)| name.to_owned());
    let mut text = String::new();
    for row in std::iter::once(&names).chain(rows) {
        let cells = row.iter().enumerate().map(|(index, cell)| {
            let width = widths[index];
            match columns[index].1 {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar as long as a figure is among figures; none for what is below zero.
pub fn bar(figure: f64, most: f64) -> String {
    let share = if most > 0.0 { figure / most } else { 0.0 };
    // Between 0 and BAR, also for what is no number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let length = (share * BAR as f64).ceil().clamp(0.0, BAR as f64) as usize;
    "█".repeat(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "5".to_owned()],
            ["₿₿₿₿".to_owned(), "500".to_owned()],
        ];
        let text = table([("ID", Side::Left), ("N", Side::Right)], &rows);
        assert_eq!(text, "ID      N\na       5\n₿₿₿₿  500\n");
    }

    #[test]
    fn a_bar_is_as_long_as_its_figure() {
        for (figure, most, length) in [
            (1.0, 1.0, 30),
            (0.1, 30.0, 1),
            (0.0, 30.0, 0),
            (-5.0, 30.0, 0),
            (5.0, 0.0, 0),
            (f64::NAN, 1.0, 0),
        ] {
            assert_eq!(bar(figure, most).chars().count(), length, "{figure}");
        }
    }
}
