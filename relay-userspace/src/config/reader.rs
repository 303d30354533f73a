//! Typed reads from a TOML table that never stop at the first fault: a value of the wrong kind is
//! reported with its place and what is expected, and the default stands in for it, so that the rest
//! of the file is still looked at. Keys that nobody read are unknown keys.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Severity};

/// A table of the file while it is read.
pub(super) struct Table<'t> {
    /// As people write it: `[routes]`, `[[access]]`, `remote_id`.
    pub name: String,
    /// The header; the place of faults that concern the table as a whole.
    pub span: Range<usize>,
    entries: Option<&'t DeTable<'t>>,
    faults: &'t Faults,
    read: RefCell<Vec<&'static str>>,
}

/// A value with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// Faults found so far.
#[derive(Default)]
pub(super) struct Faults(RefCell<Vec<Diagnostic>>);

impl Faults {
    /// The file cannot be used.
    pub fn error(&self, span: &Range<usize>, message: String, expected: impl Into<String>) {
        self.push(Diagnostic {
            severity: Severity::Error,
            message,
            span: Some(span.clone()),
            expected: expected.into(),
            related: None,
        });
    }

    /// The file can be used; the operator should look.
    pub fn warning(&self, span: &Range<usize>, message: String, expected: impl Into<String>) {
        self.push(Diagnostic {
            severity: Severity::Warning,
            message,
            span: Some(span.clone()),
            expected: expected.into(),
            related: None,
        });
    }

    /// Any other shape.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    /// All of them.
    pub fn into_list(self) -> Vec<Diagnostic> {
        self.0.into_inner()
    }
}

impl<'t> Table<'t> {
    /// The whole file.
    pub fn root(entries: &'t Spanned<DeTable<'t>>, faults: &'t Faults) -> Self {
        Self::new(
            "the file".to_owned(),
            entries.span(),
            Some(entries.get_ref()),
            faults,
        )
    }

    fn new(
        name: String,
        span: Range<usize>,
        entries: Option<&'t DeTable<'t>>,
        faults: &'t Faults,
    ) -> Self {
        Self {
            name,
            span,
            entries,
            faults,
            read: RefCell::new(Vec::new()),
        }
    }

    /// Where faults go.
    pub fn faults(&self) -> &'t Faults {
        self.faults
    }

    /// Whether the file has this key.
    pub fn has(&self, key: &str) -> bool {
        self.entries
            .is_some_and(|entries| entries.contains_key(key))
    }

    /// The value of a key as it stands in the file.
    fn value(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.read.borrow_mut().push(key);
        self.entries?.get(key)
    }

    /// Place of a key's value, else of the table.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.entries
            .and_then(|entries| entries.get(key))
            .map_or_else(|| self.span.clone(), Spanned::span)
    }

    fn wrong_kind(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = value.get_ref().type_str();
        let message = format!("`{key}` in {} is of kind {found}", self.name);
        self.faults.error(&value.span(), message, expected);
    }

    /// A text, where present.
    pub fn text(&self, key: &'static str, expected: &str) -> Option<Placed<String>> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_kind(key, value, expected);
            return None;
        };
        Some(Placed {
            value: text.to_owned(),
            span: value.span(),
        })
    }

    /// A text that is turned into something, where present and not empty.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Placed<T>> {
        let text = self
            .text(key, expected)
            .filter(|text| !text.value.is_empty())?;
        self.parse_placed(key, &text, expected, parse)
    }

    /// Turns a text into something, or reports it.
    pub fn parse_placed<T>(
        &self,
        key: &str,
        text: &Placed<String>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Placed<T>> {
        let Some(value) = parse(&text.value) else {
            let message = format!(
                "`{key}` in {} cannot be \"{}\"",
                self.name,
                cut(&text.value)
            );
            self.faults.error(&text.span, message, expected);
            return None;
        };
        Some(Placed {
            value,
            span: text.span.clone(),
        })
    }

    /// A text that must be there.
    pub fn required<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Placed<T>> {
        if !self.has(key) {
            let message = format!("{} has no `{key}`", self.name);
            let expected = format!("`{key} = …`, {expected}");
            self.faults.error(&self.span, message, expected);
        }
        let text = self.text(key, expected)?;
        self.parse_placed(key, &text, expected, parse)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let expected = match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        };
        let Some(text) = self.text(key, &expected) else {
            return default;
        };
        let parse = |text: &str| choices.iter().find(|(word, _)| *word == text).map(|c| c.1);
        self.parse_placed(key, &text, &expected, parse)
            .map_or(default, |placed| placed.value)
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_kind(key, value, "true or false");
            default
        })
    }

    /// A whole number within bounds.
    pub fn integer<T>(&self, key: &'static str, bounds: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<u64> + Copy + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.value(key) else {
            return default;
        };
        let expected = format!("a whole number, {} to {}", bounds.start(), bounds.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_kind(key, value, &expected);
            return default;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| bounds.contains(number));
        number.unwrap_or_else(|| {
            let message = format!("`{key}` in {} cannot be {integer}", self.name);
            self.faults.error(&value.span(), message, expected);
            default
        })
    }

    /// A list of texts, each turned into something.
    pub fn texts<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<Placed<T>> {
        let list = format!("a list, each {expected}");
        self.elements(key, &list)
            .filter_map(|value| {
                let Some(text) = value.get_ref().as_str() else {
                    self.wrong_kind(key, value, expected);
                    return None;
                };
                let text = Placed {
                    value: text.to_owned(),
                    span: value.span(),
                };
                self.parse_placed(key, &text, expected, &parse)
            })
            .collect()
    }

    /// A list of whole numbers within bounds.
    pub fn integers(&self, key: &'static str, bounds: RangeInclusive<u16>) -> Vec<Placed<u16>> {
        let expected = format!("whole numbers, {} to {}", bounds.start(), bounds.end());
        let list = format!("a list of {expected}");
        self.elements(key, &list)
            .filter_map(|value| {
                let number = value
                    .get_ref()
                    .as_integer()
                    .and_then(|i| u16::from_str_radix(i.as_str(), i.radix()).ok())
                    .filter(|number| bounds.contains(number));
                if number.is_none() {
                    let message = format!("not for `{key}` in {}", self.name);
                    self.faults.error(&value.span(), message, &expected);
                }
                number.map(|number| Placed {
                    value: number,
                    span: value.span(),
                })
            })
            .collect()
    }

    fn elements(
        &self,
        key: &'static str,
        expected: &str,
    ) -> impl Iterator<Item = &'t Spanned<DeValue<'t>>> + use<'t> {
        let array = self.value(key).and_then(|value| {
            let array = value.get_ref().as_array();
            if array.is_none() {
                self.wrong_kind(key, value, expected);
            }
            array
        });
        array.into_iter().flat_map(|array| array.iter())
    }

    /// A table inside; an empty one where it is absent.
    pub fn table(&self, key: &'static str, name: &str) -> Table<'t> {
        let value = self.value(key);
        let entries = value.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.wrong_kind(key, value, &format!("a table, {name}"));
            }
            table
        });
        let span = value.map_or_else(|| self.span.clone(), Spanned::span);
        Table::new(name.to_owned(), span, entries, self.faults)
    }

    /// A list of tables.
    pub fn tables(&self, key: &'static str, name: &str) -> Vec<Table<'t>> {
        self.elements(key, &format!("tables, each beginning with {name}"))
            .filter_map(|value| {
                let entries = value.get_ref().as_table();
                if entries.is_none() {
                    self.wrong_kind(key, value, &format!("a table, {name}"));
                }
                Some(Table::new(
                    name.to_owned(),
                    value.span(),
                    Some(entries?),
                    self.faults,
                ))
            })
            .collect()
    }

    /// Reports every key that nobody read.
    pub fn finish(&self) {
        let known = self.read.borrow();
        for (key, _) in self.entries.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let nearest = known.iter().min_by_key(|known| distance(known, name));
            let expected = match nearest {
                Some(nearest) if distance(nearest, name) <= 2 => {
                    format!("a known key, perhaps `{nearest}`")
                }
                _ => format!("one of: {}", known.join(", ")),
            };
            let message = format!("unknown key `{name}` in {}", self.name);
            self.faults.error(&key.span(), message, expected);
        }
    }
}

/// A text for a message: the whole of it stands in the quoted line.
fn cut(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Insertions, removals and replacements that turn one word into another.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_single_changes() {
        assert_eq!(distance("address", "adress"), 1);
        assert_eq!(distance("metric", "metric"), 0);
        assert_eq!(distance("", "abc"), 3);
    }
}
