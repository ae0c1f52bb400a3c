//! `--format`: a table for people, JSON for programs, a template for scripts.

use serde::Serialize;
use serde_json::Value;
use tinyd_core::{Error, Result};

use super::{table::Table, template::Template};

/// How a list is written.
#[derive(Debug, Default)]
pub(super) enum Format {
    /// As a table, or whatever the command shows people.
    #[default]
    People,
    /// As JSON.
    Json,
    /// One line per element by a template.
    Template(Template),
    /// A table with a column for each template.
    Columns(Vec<Template>),
}

impl Format {
    /// Reads `--format`: `json`, a template in double braces, or `table` and a template with tabs between the columns.
    ///
    /// # Errors
    /// `InvalidArgument` of `--format` with what the template does not understand.
    pub(super) fn parse(text: Option<&str>) -> Result<Format> {
        match text {
            None | Some("table") => Ok(Format::People),
            Some("json") => Ok(Format::Json),
            Some(text) if text.contains("{{") && text.starts_with("table ") => {
                let columns = text["table ".len()..].trim().replace("\\t", "\t");
                let column = |text| Template::parse("--format", text);
                Ok(Format::Columns(columns.split('\t').map(column).collect::<Result<_>>()?))
            }
            Some(text) if text.contains("{{") => Ok(Format::Template(Template::parse("--format", text)?)),
            Some(text) => Err(Error::invalid(
                "--format",
                format!("{text:?} is not a format: json, or a template such as '{{{{.Id}}}}'"),
            )),
        }
    }

    /// The elements as text: `people` makes the table.
    ///
    /// # Errors
    /// `InvalidArgument` of `--format` when a template names what is not there.
    pub(super) fn list<T: Serialize>(
        &self,
        elements: &[T],
        people: impl FnOnce() -> String,
    ) -> Result<String> {
        match self {
            Format::People => Ok(people()),
            Format::Json => json_lines(elements),
            Format::Template(template) => {
                let mut text = String::new();
                for element in elements {
                    text.push_str(&template.apply(&value(element)?)?);
                    text.push('\n');
                }
                Ok(text)
            }
            Format::Columns(columns) => table(columns, elements),
        }
    }

    /// Whether templates are applied, which show fields as a table does.
    pub(super) const fn is_by_template(&self) -> bool {
        matches!(self, Format::Template(_) | Format::Columns(_))
    }

    /// One thing as text: `people` shows it to people.
    ///
    /// # Errors
    /// `InvalidArgument` of `--format` when a template names what is not there.
    pub(super) fn one<T: Serialize>(&self, thing: &T, people: impl FnOnce() -> String) -> Result<String> {
        match self {
            Format::People => Ok(people()),
            Format::Json => pretty(thing),
            Format::Template(template) => Ok(template.apply(&value(thing)?)? + "\n"),
            Format::Columns(columns) => table(columns, std::slice::from_ref(thing)),
        }
    }
}

fn table<T: Serialize>(columns: &[Template], elements: &[T]) -> Result<String> {
    let heads: Vec<String> = columns.iter().map(Template::head).collect();
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for element in elements {
        let value = value(element)?;
        table.row(columns.iter().map(|column| column.apply(&value)).collect::<Result<Vec<_>>>()?);
    }
    Ok(table.render())
}

/// A JSON array with an element on each line: valid as a whole, and greppable.
fn json_lines<T: Serialize>(elements: &[T]) -> Result<String> {
    let lines: Vec<String> = elements
        .iter()
        .map(|element| serde_json::to_string(element).map_err(|e| Error::internal(&e)))
        .collect::<Result<_>>()?;
    Ok(if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) })
}

/// JSON that people read too.
pub(super) fn pretty<T: Serialize>(thing: &T) -> Result<String> {
    serde_json::to_string_pretty(thing).map(|text| text + "\n").map_err(|error| Error::internal(&error))
}

fn value<T: Serialize>(thing: &T) -> Result<Value> {
    serde_json::to_value(thing).map_err(|error| Error::internal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_array_with_an_element_per_line() {
        let format = Format::parse(Some("json")).unwrap();
        assert_eq!(format.list(&[1, 2], String::new).unwrap(), "[\n1,\n2\n]\n");
        assert_eq!(format.list(&[0u8; 0], String::new).unwrap(), "[]\n");
    }

    #[test]
    fn a_table_of_columns_has_heads() {
        let format = Format::parse(Some(r"table {{.Names}}\t{{.CreatedAt}}\t{{upper .Id}}")).unwrap();
        let element = serde_json::json!({"Names": "web", "CreatedAt": "now", "Id": "abc"});
        assert_eq!(
            format.list(&[element], String::new).unwrap(),
            "NAMES  CREATED AT  ID\nweb    now         ABC\n"
        );
    }

    #[test]
    fn a_word_that_is_no_format_is_told() {
        let error = Format::parse(Some("yaml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--format: \"yaml\" is not a format: json, or a template such as '{{.Id}}'"
        );
    }
}
