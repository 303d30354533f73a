//! The little TOML that docs/requirements.toml needs: arrays of tables of basic strings on one line each.
//! Anything else is an error with its line, because silence would lose a requirement.

use crate::run::Result;

/// One `[[name]]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The name between the brackets.
    pub name: String,
    /// The line of the brackets, from 1.
    pub line: usize,
    entries: Vec<(String, String)>,
}

impl Table {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|(name, _)| name == key)?;
        Some(&entry.1)
    }

    /// The keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }
}

/// All tables of a text.
pub fn parse(text: &str) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let header = line
            .strip_prefix("[[")
            .and_then(|rest| rest.strip_suffix("]]"));
        if let Some(name) = header {
            tables.push(Table {
                name: name.trim().to_owned(),
                line: number,
                entries: Vec::new(),
            });
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("line {number}: expected `key = \"text\"` or `[[table]]`"))?;
        let key = key.trim();
        let value = string(value.trim()).map_err(|error| format!("line {number}: {error}"))?;
        let table = tables
            .last_mut()
            .ok_or_else(|| format!("line {number}: {key} stands before the first [[table]]"))?;
        if table.get(key).is_some() {
            return Err(format!("line {number}: {key} appears twice"));
        }
        table.entries.push((key.to_owned(), value));
    }
    Ok(tables)
}

/// A basic string, with nothing behind it.
fn string(text: &str) -> Result<String> {
    let mut rest = text
        .strip_prefix('"')
        .ok_or("expected a text in double quotes")?
        .chars();
    let mut value = String::new();
    loop {
        match rest.next().ok_or("the text has no closing quote")? {
            '"' => break,
            '\\' => match rest.next() {
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                _ => return Err("only \\\" and \\\\ may be escaped here".into()),
            },
            other => value.push(other),
        }
    }
    match rest.as_str().trim() {
        "" => Ok(value),
        more if more.starts_with('#') => Ok(value),
        more => Err(format!("unexpected {more:?} after the text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_keys_and_lines() {
        let tables =
            parse("# list\n[[it]]\nid = \"A-1\" # note\n\n[[it]]\nid = \"A-2\"\n").unwrap();

        assert_eq!(tables.len(), 2);
        assert_eq!(tables[1].line, 5);
        assert_eq!(tables[0].get("id"), Some("A-1"));
        assert_eq!(tables[0].get("other"), None);
    }

    #[test]
    fn quotes_and_backslashes_are_unescaped() {
        assert_eq!(string(r#""a \"b\" \\ = c""#).unwrap(), r#"a "b" \ = c"#);
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for (text, line) in [
            ("[[a]]\nid = 3\n", "line 2"),
            ("[[a]]\nid = \"x\n", "line 2"),
            ("id = \"x\"\n", "line 1"),
            ("[[a]]\nid = \"x\"\nid = \"y\"\n", "line 3"),
            ("[[a]]\nnonsense\n", "line 2"),
            ("[[a]]\nid = \"x\" y\n", "line 2"),
            ("[[a]]\nid = \"\\n\"\n", "line 2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line), "{text:?}: {error}");
        }
    }
}
