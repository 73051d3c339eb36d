//! Files of rows: JSON lines, a JSON array, or CSV with a head. All become objects, so that a format is a list of
//! column names.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::DatasetError;

/// A row and where it is.
#[derive(Debug)]
pub struct Row {
    /// Its members; those of CSV are strings.
    pub values: Map<String, Value>,
    /// Its line, from 1; for an array its element.
    pub line: usize,
}

/// The rows of a file.
#[derive(Debug)]
pub struct Rows {
    /// The rows, in order.
    pub rows: Vec<Row>,
    path: PathBuf,
}

/// Reads a whole file.
///
/// # Errors
/// [`DatasetError::Read`].
pub fn read_text(path: &Path) -> Result<String, DatasetError> {
    let bytes = std::fs::read(path).map_err(|error| DatasetError::Read { path: path.into(), error })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Rows {
    /// Reads a file: `.csv` by its head, else JSON lines or an array of objects.
    ///
    /// # Errors
    /// [`DatasetError::Read`] and [`DatasetError::Malformed`], with the line.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = read_text(path)?;
        let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        let rows = if is_csv { csv(&text) } else { json(&text) };
        let rows = rows.map_err(|(line, found, expected)| DatasetError::Malformed {
            path: path.into(),
            place: format!("line {line}"),
            found,
            expected,
        })?;
        Ok(Self { rows, path: path.into() })
    }

    /// An error about a row.
    pub fn malformed(
        &self,
        row: &Row,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> DatasetError {
        let place = format!("line {}", row.line);
        DatasetError::Malformed {
            path: self.path.clone(),
            place,
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// A number of a row, by the first of `names` that it has.
    ///
    /// # Errors
    /// [`DatasetError::Malformed`] when there is none, or what is there is no number.
    pub fn number(&self, row: &Row, names: &[&str]) -> Result<f64, DatasetError> {
        let Some(value) = names.iter().find_map(|name| row.values.get(*name)) else {
            let have: Vec<&str> = row.values.keys().map(String::as_str).collect();
            let found = format!("columns {}", have.join(", "));
            return Err(self.malformed(row, found, format!("a column {}", names.join(" or "))));
        };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        number.ok_or_else(|| self.malformed(row, value.to_string(), format!("a number as {}", names[0])))
    }

    /// A count of tokens.
    ///
    /// # Errors
    /// [`DatasetError::Malformed`].
    pub fn tokens(&self, row: &Row, names: &[&str]) -> Result<u32, DatasetError> {
        let number = self.number(row, names)?;
        if (0.0..=1e8).contains(&number) {
            return Ok(number.round() as u32);
        }
        Err(self.malformed(row, number.to_string(), "a number of tokens, 0 to 100000000"))
    }

    /// An error for a file without anything of use.
    pub fn no_sample(&self, why: impl Into<String>) -> DatasetError {
        DatasetError::NoSample { path: self.path.clone(), why: why.into() }
    }
}

type Bad = (usize, String, String);

fn json(text: &str) -> Result<Vec<Row>, Bad> {
    let object = |value: Value, line| match value {
        Value::Object(values) => Ok(Row { values, line }),
        other => Err((line, excerpt(&other.to_string()), "an object".to_string())),
    };
    if text.trim_start().starts_with('[') {
        let values: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| (error.line(), error.to_string(), "JSON".to_string()))?;
        return values.into_iter().enumerate().map(|(index, value)| object(value, index + 1)).collect();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| match serde_json::from_str(line) {
            Ok(value) => object(value, index + 1),
            Err(error) => Err((index + 1, format!("{} ({error})", excerpt(line)), "JSON".to_string())),
        })
        .collect()
}

/// The beginning of a text, for an error.
pub fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

fn csv(text: &str) -> Result<Vec<Row>, Bad> {
    let mut records = csv_records(text).into_iter();
    let (_, head) = records.next().ok_or_else(|| (1, "nothing".to_string(), "a head".to_string()))?;
    let head: Vec<String> =
        head.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_string()).collect();
    let mut rows = Vec::new();
    for (line, fields) in records {
        if fields.len() == 1 && fields[0].trim().is_empty() {
            continue;
        }
        if fields.len() != head.len() {
            let found = format!("{} fields", fields.len());
            return Err((line, found, format!("{} as in the head", head.len())));
        }
        let values = head.iter().cloned().zip(fields.into_iter().map(Value::String)).collect();
        rows.push(Row { values, line });
    }
    Ok(rows)
}

/// The records of RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
fn csv_records(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut records = Vec::new();
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let (mut line, mut first_line) = (1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                fields.push(std::mem::take(&mut field));
                records.push((first_line, std::mem::take(&mut fields)));
                first_line = line;
            }
            other => field.push(other),
        }
    }
    if !field.is_empty() || !fields.is_empty() {
        fields.push(field);
        records.push((first_line, fields));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_that_of_rfc_4180() {
        let rows = csv("a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n2,\n").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].values["b"], "x, \"y\"\nz");
        assert_eq!((rows[0].line, rows[1].line), (2, 5));
        assert_eq!(rows[1].values["b"], "");
        assert_eq!(csv("a,b\n1\n").unwrap_err().0, 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(json("{\"a\":1}\n\n{\"a\":\n").unwrap_err().0, 3);
        assert_eq!(json("[1]").unwrap_err().2, "an object");
        assert_eq!(json("{\"a\":1}\n{\"b\":2}").unwrap().len(), 2);
    }
}
