//! What the sections of a file must have to do with each other: names that are unique, names that
//! exist, interfaces that have one role.

use std::ops::Range;

use super::diagnostics::{Diagnostic, Severity};
use super::reader::{Faults, Placed, Table};
use super::sections::{Access, Server};

/// At least one access and one core interface.
pub(super) fn needed(root: &Table<'_>, access: &[Access], core: &[Placed<String>]) {
    let missing = |key: &str, is_empty: bool, toward: &str| {
        if is_empty && !root.has(key) {
            root.faults().push(Diagnostic {
                severity: Severity::Error,
                message: format!("no [[{key}]] section"),
                span: None,
                expected: format!("at least one `[[{key}]]` with `interface = \"…\"`, {toward}"),
                related: None,
            });
        }
    };
    missing("access", access.is_empty(), "toward clients");
    missing("core", core.is_empty(), "toward servers and the Internet");
}

/// Every interface has one role, every server one name, every link-address one link.
pub(super) fn unique(
    faults: &Faults,
    servers: &[Server],
    access: &[Access],
    core: &[Placed<String>],
) {
    repeated(
        faults,
        "server name",
        servers.iter().map(|s| (&s.name.value, &s.name.span)),
    );
    let interfaces = access.iter().map(|a| &a.interface).chain(core);
    repeated(faults, "interface", interfaces.map(|i| (&i.value, &i.span)));
    let links = access.iter().filter_map(|a| a.link_address.as_ref());
    repeated(faults, "link_address", links.map(|l| (&l.value, &l.span)));
    // Answers find their way back by it. The same interface twice has been told above.
    let mut one_each: Vec<&Access> = Vec::new();
    for section in access {
        let is_new = |other: &&Access| other.interface.value != section.interface.value;
        if one_each.iter().all(is_new) {
            one_each.push(section);
        }
    }
    interface_ids(faults, &one_each);
    let targets: Vec<_> = servers
        .iter()
        .map(|s| {
            let target = (
                s.section.address,
                s.section.port,
                s.section.interface.clone(),
            );
            (target, &s.name.span)
        })
        .collect();
    for (at, (target, span)) in targets.iter().enumerate() {
        if let Some((_, first)) = targets[..at].iter().find(|(earlier, _)| earlier == target) {
            let what = format!(
                "two servers have the address {} and port {}",
                target.0, target.1
            );
            again(faults, what, span, first, "each server once");
        }
    }
}

/// No Interface-Id is another's, neither as it is nor with the tags of a client behind it.
fn interface_ids(faults: &Faults, access: &[&Access]) {
    for (at, later) in access.iter().enumerate() {
        for earlier in &access[..at] {
            let ids = [later, earlier].map(|one| one.section.interface_id.as_str());
            let tagged = |one: &Access, tags: &str, id: &str| {
                let (name, tags) = (&one.interface.value, tags.trim_start_matches('.'));
                format!("interface_id `{id}` is that of clients of `{name}` with VLAN tag {tags}")
            };
            let message = if ids[0] == ids[1] {
                format!("interface_id `{}` is used twice", ids[0])
            } else if let Some(tags) = tags_between(ids[1], ids[0]) {
                tagged(earlier, tags, ids[0])
            } else if let Some(tags) = tags_between(ids[0], ids[1]) {
                tagged(later, tags, ids[1])
            } else {
                continue;
            };
            let (span, first) = (&later.interface_id_span, &earlier.interface_id_span);
            let expected = "an interface_id of its own: answers find their way back by it";
            again(faults, message, span, first, expected);
        }
    }
}

/// What a client's one or two tags add to `id` where `longer` comes out of it: `.VID[.VID]`.
fn tags_between<'a>(id: &str, longer: &'a str) -> Option<&'a str> {
    let tags = longer.strip_prefix(id)?;
    let vids: Vec<&str> = tags.strip_prefix('.')?.split('.').collect();
    let is_vid = |text: &&str| {
        let vid = text.parse::<u16>();
        vid.is_ok_and(|vid| vid <= 4095 && vid.to_string() == **text)
    };
    (vids.len() <= 2 && vids.iter().all(is_vid)).then_some(tags)
}

fn repeated<'a, T: PartialEq + std::fmt::Display + 'a>(
    faults: &Faults,
    what: &str,
    items: impl Iterator<Item = (&'a T, &'a Range<usize>)>,
) {
    let mut seen: Vec<(&T, &Range<usize>)> = Vec::new();
    for (item, span) in items {
        match seen.iter().find(|(earlier, _)| *earlier == item) {
            Some((_, first)) if *first != span => {
                let message = format!("{what} `{item}` is used twice");
                let expected = match what {
                    "interface" => "each interface in one [[access]] or [[core]] only",
                    _ => "a value of its own",
                };
                again(faults, message, span, first, expected);
            }
            _ => seen.push((item, span)),
        }
    }
}

pub(super) fn again(
    faults: &Faults,
    message: String,
    span: &Range<usize>,
    first: &Range<usize>,
    expected: &str,
) {
    faults.push(Diagnostic {
        severity: Severity::Error,
        message,
        span: Some(span.clone()),
        expected: expected.to_owned(),
        related: Some((first.clone(), "used here first".to_owned())),
    });
}

/// Servers that access interfaces name exist; interfaces that servers name are toward servers.
pub(super) fn references(
    faults: &Faults,
    servers: &[Server],
    access: &[Access],
    core: &[Placed<String>],
) {
    let names: Vec<&str> = servers.iter().map(|s| s.name.value.as_str()).collect();
    for name in access.iter().flat_map(|a| &a.servers) {
        if !names.contains(&name.value.as_str()) {
            let message = format!("no [[server]] is named `{}`", name.value);
            let expected = if names.is_empty() {
                "the name of a [[server]], of which there is none".to_owned()
            } else {
                format!("one of: {}", names.join(", "))
            };
            faults.error(&name.span, message, expected);
        }
    }
    for interface in servers.iter().filter_map(|s| s.interface.as_ref()) {
        if !core.iter().any(|core| core.value == interface.value) {
            let message = format!("`{}` is no [[core]] interface", interface.value);
            let expected =
                "a [[core]] interface: answers of multicast servers are taken from there only";
            faults.warning(&interface.span, message, expected);
        }
    }
}
