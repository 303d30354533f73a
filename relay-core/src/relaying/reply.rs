//! From a server toward a client or downstream relay (RFC 8415 §19.2): whom to believe, which link
//! is meant, and where the message inside goes.
//!
//! Must not know what the message inside says: its type and content never matter for delivery.

use core::net::Ipv6Addr;

use super::link::{Link, Links, NamedTags, Sender};
use crate::error::Discard;
use crate::input::ServerDatagram;
use crate::types::{AccessId, IfIndex};
use crate::wire::iana;
use crate::wire::relay_msg::{RelayMessage, RelayOptions};

/// An answer that is to be delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) sender: Sender,
    pub(crate) access: AccessId,
    pub(crate) interface: IfIndex,
    pub(crate) tags: NamedTags,
    /// Where the message goes: peer-address.
    pub(crate) peer_address: Ipv6Addr,
    /// link-address of our envelope.
    pub(crate) link_address: Ipv6Addr,
    pub(crate) port: u16,
    /// The message, byte for byte.
    pub(crate) inner: &'a [u8],
}

/// Reads a datagram from the servers' side.
///
/// # Errors
/// Why nothing is delivered, and the access interface if one is concerned.
pub(crate) fn unwrap<'a>(
    links: &Links,
    datagram: &ServerDatagram<'a>,
) -> Result<Delivery<'a>, (Option<AccessId>, Discard)> {
    let anywhere = |reason| (None, reason);
    match datagram.payload.first() {
        None => return Err(anywhere(Discard::Malformed)),
        Some(&iana::RELAY_REPL) => {}
        Some(_) => return Err(anywhere(Discard::NotForRelay)),
    }
    let sender = links
        .sender(datagram.source, datagram.interface)
        .ok_or(anywhere(Discard::NotFromServer))?;
    // hop-count is the request's and is neither checked nor counted down. req: RLY-50
    let (layer, options) = RelayMessage::new(datagram.payload)
        .and_then(|layer| Ok((layer, layer.read_options()?)))
        .map_err(|_| anywhere(Discard::Malformed))?;
    // Never flooded. Options that the server need not return are not asked for. req: RLY-48, RLY-51
    let (link, tags) = links
        .named(options.interface_id, layer.link_address)
        .ok_or(anywhere(Discard::UnknownLink))?;
    deliver(sender, link, tags, &layer, &options)
}

fn deliver<'a>(
    sender: Sender,
    link: &Link,
    tags: NamedTags,
    layer: &RelayMessage<'a>,
    options: &RelayOptions<'a>,
) -> Result<Delivery<'a>, (Option<AccessId>, Discard)> {
    let access = link.access.id;
    let here = |reason| (Some(access), reason);
    let interface = link.access.ifindex.ok_or(here(Discard::UnknownInterface))?;
    let peer = layer.peer_address;
    if peer.is_unspecified() || peer.is_multicast() || peer.is_loopback() {
        return Err(here(Discard::Malformed));
    }
    Ok(Delivery {
        sender,
        access,
        interface,
        tags,
        peer_address: peer, // req: RLY-43, RLY-49, RLY-70
        link_address: layer.link_address,
        port: destination_port(options),
        inner: options.relay_message, // req: RLY-44, RLY-47, RLY-85
    })
}

/// 546 for a client whatever port it sent from; 547 for a relay unless it asked for another.
// req: RLY-3, RLY-5, RLY-74, RLY-75
fn destination_port(options: &RelayOptions<'_>) -> u16 {
    match (options.relay_message.first(), options.relay_port) {
        (Some(&iana::RELAY_REPL), None | Some(0)) => iana::SERVER_PORT,
        (Some(&iana::RELAY_REPL), Some(port)) => port,
        _ => iana::CLIENT_PORT,
    }
}
