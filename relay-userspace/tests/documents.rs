//! docs/operations.md explains everything that the daemon counts, tells and logs. What is found
//! here in the code and not there in the text fails.

use std::path::{Path, PathBuf};

use relay_core::input::RouteRefusal;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn operations() -> String {
    read(&here().join("../docs/operations.md"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn operations_document_names_every_counter_and_event() {
    let document = operations();
    let labels = relay_core::error::Discard::ALL
        .iter()
        .map(|it| it.name())
        .chain(relay_core::error::Notice::ALL.iter().map(|it| it.name()))
        .chain(
            relay_core::effect::BindingAction::ALL
                .iter()
                .map(|it| it.name()),
        )
        .chain(
            relay_userspace::counters::ShellDrop::ALL
                .iter()
                .map(|it| it.name()),
        )
        .chain(
            relay_common::maps::DropReason::ALL
                .iter()
                .map(|it| it.name()),
        )
        .chain(
            relay_userspace::counters::Direction::ALL
                .iter()
                .map(|it| it.name()),
        );

    let missing: Vec<&str> = labels
        .filter(|label| !document.contains(&format!("`{label}`")))
        .collect();

    assert_eq!(missing, [""; 0]);
}

#[test]
fn operations_document_names_every_metric() {
    let document = operations();
    let exposition = read(&here().join(
        "src/snapshots/relay_userspace__metrics__tests__exposition_has_the_documented_names_and_labels.snap",
    ));
    let names: Vec<&str> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 10, "{names:?}");

    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !document.contains(**name))
        .collect();

    assert_eq!(missing, [&""; 0]);
}

#[test]
fn operations_document_explains_why_routes_fail() {
    let document = operations();
    let all = [
        RouteRefusal::ForeignRoute,
        RouteRefusal::ForeignNetwork,
        RouteRefusal::NotAllowed,
        RouteRefusal::NoVlanInterface,
        RouteRefusal::NoInterface,
        RouteRefusal::Superseded,
        RouteRefusal::NotFirstHop,
        RouteRefusal::NotMapped,
        RouteRefusal::ClientLimit,
        RouteRefusal::InterfaceLimit,
        RouteRefusal::TableFull,
        RouteRefusal::Kernel(12),
    ];

    for refusal in all {
        let text = relay_userspace::control::json::refusal_text(refusal);
        let text = text.split(':').next().unwrap_or_default();
        assert!(document.contains(&format!("| `{text}")), "{text}");
    }
}

/// Every message of the log that is not made up at run time stands in the document.
#[test]
fn operations_document_explains_every_message_of_the_log() {
    let document = operations();
    let mut messages = Vec::new();
    for file in sources(&here().join("src")) {
        messages.extend(log_messages(&read(&file)));
    }
    messages.extend(alarms());
    assert!(messages.len() > 30, "{messages:#?}");

    let missing: Vec<String> = messages
        .into_iter()
        .filter(|message| first_words(message).is_some_and(|words| !document.contains(words)))
        .collect();

    assert_eq!(missing, [""; 0]);
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found
}

/// The last text in quotes of each `tracing::…!(…)`.
fn log_messages(source: &str) -> Vec<String> {
    let mut messages = Vec::new();
    for level in ["info", "warn", "error"] {
        for rest in source.split(&format!("tracing::{level}!(")).skip(1) {
            let text = last_text(rest);
            // A text over several lines goes on after the backslash and the indentation.
            let lines = text.split("\\\n").map(str::trim_start);
            messages.push(lines.collect());
        }
    }
    messages
}

/// The last text in quotes before the parenthesis closes.
fn last_text(call: &str) -> &str {
    let (mut depth, mut begin, mut last) = (1, None, "");
    for (at, character) in call.char_indices() {
        match (character, begin) {
            ('"', None) => begin = Some(at + 1),
            ('"', Some(from)) => {
                last = &call[from..at];
                begin = None;
            }
            (_, Some(_)) => {}
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    last
}

/// The first words of a message that are not filled in at run time.
fn first_words(message: &str) -> Option<&str> {
    let fixed = message.split(['{', '}']).step_by(2);
    let mut phrases = fixed.flat_map(|piece| piece.split([';', '.', ':']));
    phrases.find(|words| words.trim().len() > 6).map(str::trim)
}

/// What [`relay_userspace::control`] tells of notices, up to the colon.
fn alarms() -> Vec<String> {
    let source = read(&here().join("src/control/alarms.rs"));
    let texts = source.split("const fn meaning").nth(1).unwrap_or_default();
    let texts = texts.split("_ => return").next().unwrap_or_default();
    let texts: Vec<String> = texts
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|text| text.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(texts.len(), 7, "{texts:?}");
    texts
}
