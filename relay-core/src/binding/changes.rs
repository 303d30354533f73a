//! All bindings and remembered removals in the order of their last change, and the readers of that
//! order.
//!
//! Decides where a node stands and what a reader comes to next; must not know who reads or what a
//! node says. A node that changes moves to the tail. A reader is a *cursor*: the node that it comes
//! to next. Where that node moves or goes, the cursor steps to its successor first. So a reader
//! that is slow costs nothing per change, several changes of one binding are read once (ALQ-61),
//! and nothing is ever missed: what moves behind a cursor's back moves before its face.
//!
//! ```text
//! head ⇄ node ⇄ node ⇄ node ⇄ node ⇄ tail          older changes … newer changes
//!                 ▲ cursor: all before it is read    ▲ a changed node comes here
//! ```

use alloc::vec::Vec;

use super::slab::NONE;
use crate::time::Instant;

/// The bit that tells slots of removals from slots of bindings.
const ENDED: u32 = 1 << 31;

/// A binding or a remembered removal, by its slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Node(u32);

/// What a [`Node`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A binding in this slot of the table.
    Binding(u32),
    /// A removal in this slot of those remembered.
    Ended(u32),
}

impl Node {
    pub(crate) const fn binding(slot: u32) -> Self {
        Self(slot)
    }

    pub(crate) const fn ended(slot: u32) -> Self {
        Self(slot | ENDED)
    }

    /// As a number, for those who keep it.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) const fn kind(self) -> Kind {
        if self.0 & ENDED == 0 {
            Kind::Binding(self.0)
        } else {
            Kind::Ended(self.0 & !ENDED)
        }
    }
}

/// The number of a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CursorId(usize);

#[derive(Clone, Copy, Debug)]
struct Links {
    next: u32,
    previous: u32,
    /// Grows from change to change; 0 where the slot is not in the list.
    sequence: u64,
    changed_at: Instant,
}

const NOWHERE: Links = Links {
    next: NONE,
    previous: NONE,
    sequence: 0,
    changed_at: Instant::from_nanos(0),
};

/// A reader.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// The node that it comes to next, [`NONE`] where it has read all.
    next: u32,
    /// A removal that it had still to read, of a change not before this, was forgotten.
    has_missed: bool,
    since: Instant,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Changes {
    bindings: Vec<Links>,
    ended: Vec<Links>,
    head: u32,
    tail: u32,
    last_sequence: u64,
    readers: Vec<Option<Reader>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            bindings: Vec::new(),
            ended: Vec::new(),
            head: NONE,
            tail: NONE,
            last_sequence: 0,
            readers: Vec::new(),
        }
    }
}

impl Changes {
    /// So many more bindings are likely to come.
    pub(crate) fn expect(&mut self, bindings: usize) {
        self.bindings.reserve(bindings);
    }

    /// A node has changed, or is new: it is the newest of all.
    // req: ALQ-61
    pub(crate) fn touch(&mut self, node: Node, now: Instant) {
        self.remove(node);
        self.last_sequence += 1;
        let (slots, at) = match node.kind() {
            Kind::Binding(at) => (&mut self.bindings, at as usize),
            Kind::Ended(at) => (&mut self.ended, at as usize),
        };
        if slots.len() <= at {
            slots.resize(at + 1, NOWHERE);
        }
        if let Some(links) = slots.get_mut(at) {
            *links = Links {
                next: NONE,
                previous: self.tail,
                sequence: self.last_sequence,
                changed_at: now,
            };
        }
        match self.links_mut(Node(self.tail)) {
            Some(tail) => tail.next = node.0,
            None => self.head = node.0,
        }
        self.tail = node.0;
        for reader in self.readers.iter_mut().flatten() {
            if reader.next == NONE {
                reader.next = node.0;
            }
        }
    }

    /// Takes a node out, where it is in.
    pub(crate) fn remove(&mut self, node: Node) {
        let Some(links) = self.links(node) else {
            return;
        };
        for reader in self.readers.iter_mut().flatten() {
            if reader.next == node.0 {
                reader.next = links.next;
            }
        }
        match self.links_mut(Node(links.previous)) {
            Some(previous) => previous.next = links.next,
            None => self.head = links.next,
        }
        match self.links_mut(Node(links.next)) {
            Some(next) => next.previous = links.previous,
            None => self.tail = links.previous,
        }
        if let Some(links) = self.links_mut(node) {
            *links = NOWHERE;
        }
    }

    /// Takes a removal out that nobody will ever be told of: readers that had it still to read learn
    /// of that.
    pub(crate) fn forget(&mut self, node: Node) {
        if let Some(links) = self.links(node) {
            for at in 0..self.readers.len() {
                let reader = self.readers.get(at).copied().flatten();
                let is_missed = reader.is_some_and(|reader| {
                    let next = self.links(Node(reader.next));
                    next.is_some_and(|next| next.sequence <= links.sequence)
                        && reader.since <= links.changed_at
                });
                if let Some(Some(reader)) = self.readers.get_mut(at) {
                    reader.has_missed |= is_missed;
                }
            }
        }
        self.remove(node);
    }

    /// When a node last changed; `None` where it is not in the list.
    pub(crate) fn changed_at(&self, node: Node) -> Option<Instant> {
        self.links(node).map(|links| links.changed_at)
    }

    /// It was at another time, yet its place is right.
    pub(crate) fn set_changed_at(&mut self, node: Node, changed_at: Instant) {
        if let Some(links) = self.links_mut(node) {
            links.changed_at = changed_at;
        }
    }

    /// The order of changes: greater is newer.
    pub(crate) fn sequence(&self, node: Node) -> u64 {
        self.links(node).map_or(0, |links| links.sequence)
    }

    /// A reader of everything, to which only changes from `since` on matter.
    pub(crate) fn read_all(&mut self, since: Instant) -> CursorId {
        self.add_reader(self.head, since)
    }

    /// A reader of what changes from now on.
    pub(crate) fn read_new(&mut self) -> CursorId {
        self.add_reader(NONE, Instant::NEVER)
    }

    fn add_reader(&mut self, next: u32, since: Instant) -> CursorId {
        let reader = Some(Reader {
            next,
            has_missed: false,
            since,
        });
        let free = self.readers.iter().position(Option::is_none);
        let at = free.unwrap_or(self.readers.len());
        match self.readers.get_mut(at) {
            Some(place) => *place = reader,
            None => self.readers.push(reader),
        }
        CursorId(at)
    }

    /// It reads no more.
    pub(crate) fn close(&mut self, cursor: CursorId) {
        if let Some(reader) = self.readers.get_mut(cursor.0) {
            *reader = None;
        }
    }

    /// What it comes to next; `None` where it has read all.
    pub(crate) fn next(&self, cursor: CursorId) -> Option<Node> {
        let reader = self.readers.get(cursor.0)?.as_ref()?;
        (reader.next != NONE).then_some(Node(reader.next))
    }

    /// It has read that.
    pub(crate) fn step(&mut self, cursor: CursorId) {
        let next = self.next(cursor).and_then(|node| self.links(node));
        if let (Some(Some(reader)), Some(links)) = (self.readers.get_mut(cursor.0), next) {
            reader.next = links.next;
        }
    }

    /// It skips all that there is now.
    pub(crate) fn skip_all(&mut self, cursor: CursorId) {
        if let Some(Some(reader)) = self.readers.get_mut(cursor.0) {
            reader.next = NONE;
            reader.has_missed = false;
        }
    }

    /// Whether a removal was forgotten before it came to it.
    pub(crate) fn has_missed(&self, cursor: CursorId) -> bool {
        let reader = self.readers.get(cursor.0).copied().flatten();
        reader.is_some_and(|reader| reader.has_missed)
    }

    fn links(&self, node: Node) -> Option<Links> {
        let links = match node.kind() {
            Kind::Binding(at) => self.bindings.get(at as usize),
            Kind::Ended(at) => self.ended.get(at as usize),
        };
        links.copied().filter(|links| links.sequence > 0)
    }

    fn links_mut(&mut self, node: Node) -> Option<&mut Links> {
        let links = match node.kind() {
            Kind::Binding(at) => self.bindings.get_mut(at as usize),
            Kind::Ended(at) => self.ended.get_mut(at as usize),
        };
        links.filter(|links| links.sequence > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(time: u64) -> Instant {
        Instant::from_nanos(time)
    }

    fn node(of: u32) -> Node {
        if of.is_multiple_of(3) {
            Node::ended(of)
        } else {
            Node::binding(of)
        }
    }

    fn drain(changes: &mut Changes, cursor: CursorId) -> Vec<Node> {
        let mut read = Vec::new();
        while let Some(next) = changes.next(cursor) {
            read.push(next);
            changes.step(cursor);
        }
        read
    }

    /// The last state of what changed several times is read once. req: ALQ-61
    #[test]
    fn alq_61_changes_of_one_node_collapse_and_keep_the_order_of_the_last() {
        let mut changes = Changes::default();
        let cursor = changes.read_new();

        for (time, of) in [1, 2, 1, 4, 1].into_iter().enumerate() {
            changes.touch(node(of), at(time as u64));
        }

        assert_eq!(drain(&mut changes, cursor), [node(2), node(4), node(1)]);
        assert_eq!(changes.changed_at(node(1)), Some(at(4)));
    }

    #[test]
    fn changes_forgotten_before_a_reader_came_are_missed_by_it_alone() {
        let mut changes = Changes::default();
        changes.touch(Node::ended(1), at(10));
        changes.touch(Node::binding(1), at(20));
        let (all, late) = (changes.read_all(at(10)), changes.read_all(at(11)));
        let passed = changes.read_all(at(0));
        changes.step(passed);

        changes.forget(Node::ended(1));

        let missed = [all, late, passed].map(|cursor| changes.has_missed(cursor));
        assert_eq!(missed, [true, false, false]);
        assert_eq!(drain(&mut changes, all), [Node::binding(1)]);
    }

    proptest! {
        /// Against a list that is sorted each time, and readers that remember what they read: each
        /// reader gets the newest change of each node that changed since it last read it, in order.
        #[test]
        fn changes_agree_with_a_plain_list(
            ops in proptest::collection::vec((0u8..5, 0u32..12), 0..200),
        ) {
            let mut changes = Changes::default();
            let mut model: Vec<(u64, Node)> = Vec::new();
            let mut readers: Vec<(CursorId, u64)> = Vec::new();
            for (time, (op, of)) in (1u64..).zip(ops) {
                match op {
                    0 | 1 => {
                        changes.touch(node(of), at(time));
                        model.retain(|(_, it)| *it != node(of));
                        model.push((time, node(of)));
                    }
                    2 => {
                        changes.remove(node(of));
                        model.retain(|(_, it)| *it != node(of));
                    }
                    3 if readers.len() < 4 => {
                        let (all, now) = (changes.read_all(at(0)), changes.read_new());
                        readers.push((all, 0));
                        readers.push((now, time));
                    }
                    _ => {
                        for (cursor, read_until) in &mut readers {
                            let expected = model.iter().find(|(time, _)| *time > *read_until);
                            prop_assert_eq!(changes.next(*cursor), expected.map(|(_, it)| *it));
                            if let Some((time, _)) = expected {
                                *read_until = *time;
                            }
                            changes.step(*cursor);
                        }
                    }
                }
            }
        }
    }
}
