//! Names by their numbers. The core numbers access interfaces, servers and peers; people, metrics and
//! the store name them. A name that a reload removed keeps its number, and bindings their origin.

use relay_core::alq::Remote;
use relay_core::types::{AccessId, PeerId, ServerId};
use relay_core::view::Origin;

/// What the access interface of a lease without one is called.
const UNMAPPED: &str = "unmapped";
/// How the store names the access interface of such a lease.
pub const NO_INTERFACE: &str = "";

/// By number.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    /// Access interfaces.
    pub access: Vec<String>,
    /// Servers.
    pub servers: Vec<String>,
    /// Peers of Active Leasequery.
    pub peers: Vec<String>,
}

impl Names {
    /// Of an access interface; one that nobody knows shows its number.
    pub fn access(&self, access: AccessId) -> String {
        if access == AccessId::UNMAPPED {
            return UNMAPPED.to_owned();
        }
        name(&self.access, access.0).unwrap_or_else(|| format!("access#{}", access.0))
    }

    /// As the store keeps it; `None` where it has no name.
    pub fn stored_access(&self, access: AccessId) -> Option<&str> {
        if access == AccessId::UNMAPPED {
            return Some(NO_INTERFACE);
        }
        self.access.get(usize::from(access.0)).map(String::as_str)
    }

    /// As the store keeps it: nothing where it was snooped.
    pub fn stored_origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Snooped => String::new(),
            told => self.origin(told),
        }
    }

    /// Of a peer.
    pub fn peer(&self, peer: PeerId) -> String {
        name(&self.peers, peer.0).unwrap_or_else(|| format!("peer#{}", peer.0))
    }

    /// Of a server.
    pub fn server(&self, server: ServerId) -> String {
        name(&self.servers, server.0).unwrap_or_else(|| format!("server#{}", server.0))
    }

    /// Of the other end of a session.
    pub fn remote(&self, remote: Remote) -> String {
        match remote {
            Remote::Peer(peer) => self.peer(peer),
            Remote::Server(server) => self.server(server),
        }
    }

    /// Whom a lease was learned from: `active-leasequery:r2`.
    pub fn origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Snooped => SNOOPED.to_owned(),
            Origin::ActiveLeasequery(peer) => format!("{ACTIVE}{}", self.peer(peer)),
            Origin::BulkLeasequery(server) => format!("{BULK}{}", self.server(server)),
            Origin::Leasequery(server) => format!("{SINGLE}{}", self.server(server)),
        }
    }

    /// The origin of this name, where its peer or server has a number.
    pub fn origin_by_name(&self, text: &str) -> Option<Origin> {
        match read_origin(text)? {
            OriginName::Snooped => Some(Origin::Snooped),
            OriginName::Active(name) => {
                find(&self.peers, name).map(|at| Origin::ActiveLeasequery(PeerId(at)))
            }
            OriginName::Bulk(name) => {
                find(&self.servers, name).map(|at| Origin::BulkLeasequery(ServerId(at)))
            }
            OriginName::Single(name) => {
                find(&self.servers, name).map(|at| Origin::Leasequery(ServerId(at)))
            }
        }
    }

    /// A text of the core for people: `{N}` is peer N, `{sN}` server N.
    pub fn put_into(&self, text: &str) -> String {
        let mut whole = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('{') {
            whole.push_str(before);
            let Some((inside, behind)) = from.split_once('}') else {
                whole.push('{');
                rest = from;
                continue;
            };
            let server = inside.strip_prefix('s');
            let number = server.unwrap_or(inside).parse().ok();
            match (number, server) {
                (Some(number), None) => whole.push_str(&self.peer(PeerId(number))),
                (Some(number), Some(_)) => whole.push_str(&self.server(ServerId(number))),
                (None, _) => {
                    whole.push('{');
                    whole.push_str(inside);
                    whole.push('}');
                }
            }
            rest = behind;
        }
        whole.push_str(rest);
        whole
    }
}

const SNOOPED: &str = "snooped";
const ACTIVE: &str = "active-leasequery:";
const BULK: &str = "bulk-leasequery:";
const SINGLE: &str = "leasequery:";

/// What the name of an origin says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OriginName<'a> {
    /// Read from a Reply that we relayed.
    Snooped,
    /// Told by the peer of this name.
    Active(&'a str),
    /// Told by the server of this name, asked for all.
    Bulk(&'a str),
    /// Told by the server of this name, asked for one.
    Single(&'a str),
}

/// Reads the name of an origin.
pub fn read_origin(text: &str) -> Option<OriginName<'_>> {
    let named = |prefix| {
        text.strip_prefix(prefix)
            .filter(|name: &&str| !name.is_empty())
    };
    if text == SNOOPED {
        return Some(OriginName::Snooped);
    }
    named(ACTIVE)
        .map(OriginName::Active)
        .or_else(|| named(BULK).map(OriginName::Bulk))
        .or_else(|| named(SINGLE).map(OriginName::Single))
}

fn name(names: &[String], number: u16) -> Option<String> {
    names.get(usize::from(number)).cloned()
}

fn find(names: &[String], name: &str) -> Option<u16> {
    let at = names.iter().position(|it| it == name)?;
    u16::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let list = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
        Names {
            access: list(&["acc0"]),
            servers: list(&["kea-a", "kea-b"]),
            peers: list(&["r2"]),
        }
    }

    #[test]
    fn origin_reads_back_from_its_name() {
        for origin in [
            Origin::Snooped,
            Origin::ActiveLeasequery(PeerId(0)),
            Origin::BulkLeasequery(ServerId(1)),
            Origin::Leasequery(ServerId(0)),
        ] {
            let text = names().origin(origin);

            assert_eq!(names().origin_by_name(&text), Some(origin), "{text}");
        }
        assert_eq!(names().origin_by_name("active-leasequery:r9"), None);
        assert_eq!(read_origin("leasequery:"), None);
        assert_eq!(read_origin("heard"), None);
    }

    #[test]
    fn text_of_the_core_names_peers_and_servers() {
        let text = names().put_into("waiting for {0}: backoff, {s1}: {x} {7} and {");

        assert_eq!(text, "waiting for r2: backoff, kea-b: {x} peer#7 and {");
    }

    #[test]
    fn lease_without_a_link_is_shown_as_unmapped() {
        assert_eq!(names().access(AccessId(0)), "acc0");
        assert_eq!(names().access(AccessId::UNMAPPED), "unmapped");
        assert_eq!(names().access(AccessId(5)), "access#5");
    }
}
