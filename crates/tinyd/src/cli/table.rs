//! Tables: a head, rows, columns as wide as their widest cell, two spaces between them.

use unicode_width::UnicodeWidthStr;

use super::text::printable;

/// A table for people.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with the names of its columns.
    pub(super) fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row. Control characters in it become escapes; an empty cell becomes `-`, so that columns can be counted.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| match cell.as_str() {
            "" => "-".to_owned(),
            text => printable(text).into_owned(),
        });
        self.rows.push(cells.collect());
    }

    /// The text, each line ended.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < columns {
                    text.extend(std::iter::repeat_n(' ', widths[column] - cell.width() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_seen() {
        let mut table = Table::new(&["NAME", "PORTS", "LAST"]);
        table.row(["日本".into(), String::new(), "x\n".into()]);
        table.row(["abcdef".into(), "80:80;".into(), "y".into()]);
        assert_eq!(table.render(), "NAME    PORTS   LAST\n日本    -       x\\n\nabcdef  80:80;  y\n");
    }

    #[test]
    fn an_empty_table_has_its_head() {
        assert_eq!(Table::new(&["A", "B"]).render(), "A  B\n");
    }
}
