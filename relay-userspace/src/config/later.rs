//! Keys whose features are not in this release: their values are checked like all others, and
//! switching such a feature on is refused, because a router that silently lacks what its file asks
//! for is worse than one that does not start.

use super::reader::Table;
use super::values;

const NOT_HERE: &str = "is not in this release";

fn refuse(table: &Table<'_>, key: &str, what: &str, expected: &str) {
    let message = format!("{what} {NOT_HERE}");
    let expected = format!("{expected}, or a later release");
    table.faults().error(&table.span_of(key), message, expected);
}

/// `source_guard`, `source_allow`, `anti_loop`.
pub(super) fn access(table: &Table<'_>) {
    let modes = [("off", false), ("monitor", true), ("enforce", true)];
    if table.choice("source_guard", &modes, false) {
        refuse(table, "source_guard", "the source guard", "\"off\"");
    }
    table.texts("source_allow", values::SOURCE, values::source);
    let modes = [("off", false), ("drop", true), ("icmp", true)];
    if table.choice("anti_loop", &modes, false) {
        refuse(table, "anti_loop", "the access-side loop guard", "\"off\"");
    }
}

/// `forwarding`.
pub(super) fn dataplane(table: &Table<'_>) {
    let modes = [("kernel", false), ("xdp", true)];
    if table.choice("forwarding", &modes, false) {
        refuse(table, "forwarding", "forwarding in XDP", "\"kernel\"");
    }
}
