//! Requirements, and the tags that point at them: `docs/requirements.toml` owns the IDs, a plain comment
//! `// req: ID` marks the code that fulfils one, a doc comment `/// … req: ID` above a test marks its test.
//! Decides what counts as which; what follows from it is for `trace`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::run::{self, Result};
use crate::toml;

/// Where a requirement stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// It bears a tag in the code and in a test.
    Implemented,
    /// Not yet, and why.
    Planned(String),
    /// Never or not by us, and why.
    Exception(String),
}

/// One entry of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// Its name, `RLY-36`.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// How strongly.
    pub level: String,
    /// What it demands.
    pub text: String,
    /// Where it stands.
    pub status: Status,
}

/// A place in the sources that names requirements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The file, below the root.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The requirements named.
    pub ids: Vec<String>,
    /// The test it stands above; `None` in code.
    pub test: Option<String>,
}

/// A test, tagged or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Test {
    /// The file, below the root.
    pub file: String,
    /// The line of its attribute, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
}

/// What the sources say about requirements.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Sources {
    /// All tags.
    pub tags: Vec<Tag>,
    /// All tests.
    pub tests: Vec<Test>,
}

/// The list, by ID; every fault of it at once.
pub fn read(root: &Path) -> Result<BTreeMap<String, Requirement>> {
    let path = root.join("docs/requirements.toml");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("docs/requirements.toml: {error}"))
}

fn parse(text: &str) -> Result<BTreeMap<String, Requirement>> {
    let mut list = BTreeMap::new();
    let mut faults = Vec::new();
    for table in toml::parse(text)? {
        match requirement(&table) {
            Ok(it) => {
                if let Some(twice) = list.insert(it.id.clone(), it) {
                    faults.push(format!("line {}: {} is there twice", table.line, twice.id));
                }
            }
            Err(error) => faults.push(format!("line {}: {error}", table.line)),
        }
    }
    if faults.is_empty() {
        return Ok(list);
    }
    Err(faults.join("\n"))
}

fn requirement(table: &toml::Table) -> Result<Requirement> {
    const KEYS: [&str; 6] = ["id", "source", "level", "text", "status", "reason"];
    if table.name != "requirement" {
        return Err(format!("[[{}]] is not [[requirement]]", table.name));
    }
    if let Some(key) = table.keys().find(|key| !KEYS.contains(key)) {
        return Err(format!("unknown key {key}"));
    }
    let field = |key: &str| {
        let value = table.get(key).filter(|value| !value.trim().is_empty());
        value
            .map(str::to_owned)
            .ok_or(format!("{key} is missing or empty"))
    };
    let id = field("id")?;
    if !is_id(&id) {
        return Err(format!(
            "{id:?} is no ID: expected one like RLY-36 or PDR-G-5"
        ));
    }
    let status = match field("status")?.as_str() {
        "implemented" => Status::Implemented,
        "planned" => Status::Planned(field("reason")?),
        "exception" => Status::Exception(field("reason")?),
        other => {
            return Err(format!(
                "{id}: status {other:?} is not implemented, planned or exception"
            ));
        }
    };
    Ok(Requirement {
        source: field("source")?,
        level: field("level")?,
        text: field("text")?,
        status,
        id,
    })
}

/// Upper-case words and a number at the end, joined by hyphens.
fn is_id(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let word = |part: &str| {
        part.starts_with(|it: char| it.is_ascii_uppercase())
            && part
                .bytes()
                .all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    let number = parts.next().is_some_and(digits);
    let words: Vec<&str> = parts.collect();
    number && !words.is_empty() && words.into_iter().all(word)
}

/// All tags and tests. xtask itself fulfils no requirement and is left out.
pub fn sources(root: &Path) -> Result<Sources> {
    let mut sources = Sources::default();
    for file in run::files(root, "rs")? {
        if file.starts_with("xtask") {
            continue;
        }
        let text = fs::read_to_string(root.join(&file))
            .map_err(|error| format!("read {}: {error}", file.display()))?;
        let name = file.display().to_string();
        sources.tags.extend(tags_of(&name, &text));
        sources.tests.extend(tests_of(&name, &text));
    }
    Ok(sources)
}

fn tests_of(file: &str, text: &str) -> Vec<Test> {
    let lines: Vec<&str> = text.lines().collect();
    let attributes = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_test_attribute(line.trim()));
    attributes
        .filter_map(|(index, _)| {
            Some(Test {
                file: file.to_owned(),
                line: index + 1,
                name: test_below(&lines[index..])?,
            })
        })
        .collect()
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[")
        && (line.contains("test]") || line.contains("test("))
        && !line.starts_with("#[cfg")
}

fn tags_of(file: &str, text: &str) -> Vec<Tag> {
    let lines: Vec<&str> = text.lines().collect();
    let mut tags = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((before, named)) = line.split_once("req:") else {
            continue;
        };
        let Some(comment) = before.find("//") else {
            continue;
        };
        let doc = before[comment..].starts_with("///");
        let test = test_below(&lines[index + 1..]);
        if before[comment..].starts_with("//!") || (doc && test.is_none()) {
            continue;
        }
        tags.push(Tag {
            file: file.to_owned(),
            line: index + 1,
            ids: ids(named),
            test: test.filter(|_| doc),
        });
    }
    tags
}

/// The IDs at the start of a text, separated by commas; what follows in brackets is the source.
fn ids(text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for word in text.split(',') {
        let word = word.trim_start();
        let end = word
            .find(|it: char| !it.is_ascii_uppercase() && !it.is_ascii_digit() && it != '-')
            .unwrap_or(word.len());
        if !is_id(&word[..end]) {
            break;
        }
        ids.push(word[..end].to_owned());
        if !word[end..].trim().is_empty() {
            break;
        }
    }
    ids
}

/// The name of the test whose comments and attributes these lines go on with.
fn test_below(lines: &[&str]) -> Option<String> {
    let mut is_test = false;
    for line in lines.iter().map(|line| line.trim()) {
        if is_test_attribute(line) {
            is_test = true;
        } else if let Some((before, after)) = line.split_once("fn ") {
            let name = after.split(['(', '<']).next()?;
            let declares = before.is_empty() || before.ends_with(' ');
            return (is_test && declares).then(|| name.to_owned());
        } else if !(line.starts_with("///") || is_attribute(line)) {
            return None;
        }
    }
    None
}

/// Also the inner lines of one that was broken over several.
fn is_attribute(line: &str) -> bool {
    line.starts_with("#[") || line.ends_with(',') || line == ")]" || line.ends_with('"')
}

/// How the names of a requirement's tests begin: `rly_36_`.
pub fn test_prefix(id: &str) -> String {
    id.to_ascii_lowercase().replace('-', "_") + "_"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[requirement]]\nid = \"RLY-36\"\nsource = \"RFC 8415 §19.1.2\"\n\
                         level = \"DECL\"\ntext = \"Hop limit.\"\n";

    #[test]
    fn entry_with_status_implemented_is_read() {
        let list = parse(&format!("{ENTRY}status = \"implemented\"\n")).unwrap();

        assert_eq!(list["RLY-36"].status, Status::Implemented);
        assert_eq!(list["RLY-36"].text, "Hop limit.");
    }

    #[test]
    fn exception_and_planned_without_reason_are_refused() {
        for status in ["exception", "planned"] {
            let error = parse(&format!("{ENTRY}status = \"{status}\"\n")).unwrap_err();
            assert!(error.contains("reason is missing"), "{error}");
        }
    }

    #[test]
    fn unknown_status_key_and_repeated_id_are_refused() {
        let twice = format!("{ENTRY}status = \"implemented\"\n{ENTRY}status = \"implemented\"\n");

        assert!(parse(&format!("{ENTRY}status = \"done\"\n")).is_err());
        assert!(parse(&format!("{ENTRY}status = \"implemented\"\nwho = \"me\"\n")).is_err());
        assert!(parse(&twice).unwrap_err().contains("twice"));
    }

    #[test]
    fn ids_end_at_the_source_in_brackets() {
        assert_eq!(ids(" RLY-72, RLY-73 (RFC 8357 §5.2)"), ["RLY-72", "RLY-73"]);
        assert_eq!(ids(" ALQ-D-1"), ["ALQ-D-1"]);
        assert_eq!(ids(" ALQ4-2."), ["ALQ4-2"]);
        assert_eq!(ids(" RLY-1 and RLY-2"), ["RLY-1"]);
        assert!(ids(" see below").is_empty());
    }

    #[test]
    fn plain_comment_is_code_and_doc_comment_above_a_test_is_a_test() {
        let text = "fn a() {\n    x(); // req: RLY-36, RLY-37\n}\n\
                    /// Says so. req: RLY-36 (RFC 8415 §19.1.2)\n/// And more.\n#[test]\n\
                    #[cfg(unix)]\nfn rly_36_is_dropped() {}\n";

        let tags = tags_of("a.rs", text);

        assert_eq!(tags.len(), 2);
        assert_eq!((tags[0].line, tags[0].test.clone()), (2, None));
        assert_eq!(tags[0].ids, ["RLY-36", "RLY-37"]);
        assert_eq!(tags[1].test.as_deref(), Some("rly_36_is_dropped"));
    }

    #[test]
    fn doc_comment_above_something_else_is_no_tag() {
        let text = "/// Drops. req: RLY-36\nfn a() {}\n//! req: RLY-1\n";

        assert!(tags_of("a.rs", text).is_empty());
    }

    #[test]
    fn async_test_counts_as_test() {
        let text = "/// req: SNP-11\n#[tokio::test(start_paused = true)]\nasync fn snp_11_a() {}\n";

        assert_eq!(tags_of("a.rs", text)[0].test.as_deref(), Some("snp_11_a"));
    }

    #[test]
    fn tests_are_found_by_their_attribute() {
        let text = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn snp_6_a() {}\n    fn b() {}\n";

        let tests = tests_of("a.rs", text);

        assert_eq!(tests.len(), 1);
        assert_eq!((tests[0].line, tests[0].name.as_str()), (3, "snp_6_a"));
    }

    #[test]
    fn prefix_of_tests_is_the_id_in_lower_case() {
        assert_eq!(test_prefix("PDR-G-5"), "pdr_g_5_");
    }
}
