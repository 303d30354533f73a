//! `cargo xtask trace`: from a requirement to its code and tests and back. Decides what a gap is: an
//! implemented requirement without code or test, a tag that names nothing, a test under a wrong name.

use std::collections::BTreeMap;

use crate::requirements::{self, Requirement, Sources, Status, test_prefix};
use crate::run::{Result, root};

/// `trace` counts, `trace ID` shows one requirement, `trace --check` fails on gaps.
pub fn main(args: &[String]) -> Result<()> {
    let root = root();
    let list = requirements::read(&root)?;
    let sources = requirements::sources(&root)?;
    match args {
        [] => print!("{}", summary(&list)),
        [flag] if flag == "--check" => {
            let gaps = check(&list, &sources);
            if !gaps.is_empty() {
                return Err(format!(
                    "trace: {} gaps\n  {}",
                    gaps.len(),
                    gaps.join("\n  ")
                ));
            }
            print!("{}", summary(&list));
        }
        ids => {
            for id in ids {
                let id = id.to_ascii_uppercase();
                let requirement = list.get(&id).ok_or_else(|| {
                    format!("{id} is not in docs/requirements.toml; usage: trace [ID…|--check]")
                })?;
                print!("{}", show(requirement, &sources));
            }
        }
    }
    Ok(())
}

fn summary(list: &BTreeMap<String, Requirement>) -> String {
    let count = |wanted: fn(&Status) -> bool| list.values().filter(|it| wanted(&it.status)).count();
    format!(
        "{} requirements: {} implemented, {} planned, {} exceptions\n",
        list.len(),
        count(|it| *it == Status::Implemented),
        count(|it| matches!(it, Status::Planned(_))),
        count(|it| matches!(it, Status::Exception(_)))
    )
}

fn show(it: &Requirement, sources: &Sources) -> String {
    let status = match &it.status {
        Status::Implemented => "implemented".to_owned(),
        Status::Planned(reason) => format!("planned: {reason}"),
        Status::Exception(reason) => format!("exception: {reason}"),
    };
    let mut text = format!(
        "{}  {} · {}\n  {}\n  {status}\n",
        it.id, it.level, it.source, it.text
    );
    for place in code(&it.id, sources) {
        text += &format!("  code  {place}\n");
    }
    for (name, place) in tests(&it.id, sources) {
        text += &format!("  test  {place}  {name}\n");
    }
    text
}

/// Where the code of a requirement is tagged.
fn code(id: &str, sources: &Sources) -> Vec<String> {
    let tags = sources.tags.iter().filter(|tag| tag.test.is_none());
    tags.filter(|tag| tag.ids.iter().any(|it| it == id))
        .map(|tag| format!("{}:{}", tag.file, tag.line))
        .collect()
}

/// The tests of a requirement, those that bear its name and those that bear its tag, with their places.
fn tests(id: &str, sources: &Sources) -> BTreeMap<String, String> {
    let prefix = test_prefix(id);
    let named = sources
        .tests
        .iter()
        .filter(|test| test.name.starts_with(&prefix));
    let named = named.map(|test| (test.name.clone(), format!("{}:{}", test.file, test.line)));
    let tagged = sources
        .tags
        .iter()
        .filter(|tag| tag.ids.iter().any(|it| it == id));
    let tagged = tagged.filter_map(|tag| {
        let name = tag.test.clone()?;
        Some((name, format!("{}:{}", tag.file, tag.line)))
    });
    named.chain(tagged).collect()
}

/// Every gap, one line each.
fn check(list: &BTreeMap<String, Requirement>, sources: &Sources) -> Vec<String> {
    let mut gaps = Vec::new();
    for tag in &sources.tags {
        let place = format!("{}:{}", tag.file, tag.line);
        if tag.ids.is_empty() {
            gaps.push(format!("{place}: `req:` names no requirement"));
        }
        for id in tag.ids.iter().filter(|id| !list.contains_key(*id)) {
            gaps.push(format!("{place}: {id} is not in docs/requirements.toml"));
        }
        // `rly_36_…` that is tagged for something else.
        if let Some(test) = &tag.test
            && let Some(id) = list.keys().find(|id| test.starts_with(&test_prefix(id)))
            && !tag.ids.contains(id)
        {
            gaps.push(format!(
                "{place}: {test} bears the name of {id} and not its tag"
            ));
        }
    }
    let implemented = list.values().filter(|it| it.status == Status::Implemented);
    for Requirement { id, .. } in implemented {
        match (code(id, sources).is_empty(), tests(id, sources).is_empty()) {
            (false, false) => {}
            (false, true) => gaps.push(format!("{id}: code, but no test")),
            (true, false) => gaps.push(format!("{id}: a test, but no code with its tag")),
            (true, true) => gaps.push(format!("{id}: neither code nor test")),
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::{Tag, Test};

    fn list(id: &str, status: Status) -> BTreeMap<String, Requirement> {
        let it = Requirement {
            id: id.into(),
            source: "RFC 8415 §19".into(),
            level: "MUST".into(),
            text: "Text.".into(),
            status,
        };
        BTreeMap::from([(id.into(), it)])
    }

    fn tag(id: &str, test: Option<&str>) -> Tag {
        Tag {
            file: "a.rs".into(),
            line: 7,
            ids: vec![id.into()],
            test: test.map(str::to_owned),
        }
    }

    fn tags<const N: usize>(tags: [Tag; N]) -> Sources {
        Sources {
            tags: tags.to_vec(),
            tests: Vec::new(),
        }
    }

    #[test]
    fn implemented_requirement_needs_code_and_test() {
        let list = list("RLY-36", Status::Implemented);
        let (code, test) = (tag("RLY-36", None), tag("RLY-36", Some("rly_36_a")));

        assert_eq!(check(&list, &tags([])), ["RLY-36: neither code nor test"]);
        assert_eq!(
            check(&list, &tags([code.clone()])),
            ["RLY-36: code, but no test"]
        );
        assert_eq!(check(&list, &tags([test.clone()])).len(), 1);
        assert!(check(&list, &tags([code, test])).is_empty());
    }

    #[test]
    fn test_that_bears_the_name_needs_no_tag() {
        let list = list("RLY-36", Status::Implemented);
        let mut sources = tags([tag("RLY-36", None)]);
        sources.tests.push(Test {
            file: "b.rs".into(),
            line: 3,
            name: "rly_36_at_the_limit".into(),
        });

        assert!(check(&list, &sources).is_empty());
        assert!(show(&list["RLY-36"], &sources).contains("b.rs:3  rly_36_at_the_limit"));
    }

    #[test]
    fn exception_needs_neither() {
        assert!(
            check(
                &list("RLY-42", Status::Exception("Of servers.".into())),
                &tags([])
            )
            .is_empty()
        );
    }

    #[test]
    fn tag_of_unknown_requirement_is_a_gap() {
        let gaps = check(&BTreeMap::new(), &tags([tag("RLY-999", None)]));

        assert_eq!(gaps, ["a.rs:7: RLY-999 is not in docs/requirements.toml"]);
    }

    #[test]
    fn test_named_after_another_requirement_is_a_gap() {
        let mut list = list("RLY-36", Status::Exception("x".into()));
        list.extend(self::list("RLY-37", Status::Exception("x".into())));

        assert_eq!(
            check(&list, &tags([tag("RLY-37", Some("rly_36_a"))])).len(),
            1
        );
        assert!(check(&list, &tags([tag("RLY-37", Some("rly_37_a"))])).is_empty());
    }

    #[test]
    fn shown_requirement_lists_its_places() {
        let list = list("RLY-36", Status::Implemented);

        let text = show(
            &list["RLY-36"],
            &tags([tag("RLY-36", None), tag("RLY-1", None)]),
        );

        assert!(text.contains("code  a.rs:7"), "{text}");
        assert_eq!(text.matches("a.rs").count(), 1);
    }
}
