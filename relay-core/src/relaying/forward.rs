//! From a client or downstream relay toward the servers (RFC 8415 §19.1): what passes, and in
//! which envelope.
//!
//! Decides from the datagram and the configuration alone; must not know of bindings.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::ops::Range;

use super::link::{Link, is_link_local};
use crate::error::{DecodeError, Discard};
use crate::input::ClientDatagram;
use crate::wire::iana;
use crate::wire::message::Message;
use crate::wire::relay_msg::{Innermost, RelayMessage, RelayWriter};

/// A datagram that may pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted<'a> {
    /// hop-count and link-address of the new envelope.
    hop_count: u8,
    pub(crate) link_address: Ipv6Addr,
    /// It came from a relay: no option 79, and its UDP port matters.
    is_relayed: bool,
    /// The client's message; `None` where the layers above it cannot be read. It passes all the
    /// same, nothing is learned from it.
    pub(crate) innermost: Option<Innermost<'a>>,
}

/// Whether a datagram passes (spec section 2, RFC 8415 §16, §19.1).
///
/// # Errors
/// Why it does not.
pub(crate) fn accept<'a>(
    link: &Link,
    datagram: &ClientDatagram<'a>,
) -> Result<Accepted<'a>, Discard> {
    let source = datagram.source;
    if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
        return Err(Discard::BadSource);
    }
    let message = Message::new(datagram.payload).map_err(|_| Discard::Malformed)?;
    classify(link, message.message_type)?;
    if message.message_type == iana::RELAY_FORW {
        return accept_relayed(link, datagram);
    }
    if !datagram.destination.is_multicast() {
        // req: RLY-11
        return Err(Discard::UnicastFromClient);
    }
    Ok(Accepted {
        hop_count: 0, // req: RLY-22
        // req: RLY-20, RLY-24
        link_address: link.access.link_address,
        is_relayed: false,
        innermost: Some(Innermost {
            message,
            client_address: source,
            cascaded: false,
            has_rsoo: false,
        }),
    })
}

/// What happens to each type of message that comes in on an access interface.
fn classify(link: &Link, message_type: u8) -> Result<(), Discard> {
    let access = &link.access;
    match message_type {
        // req: RLY-7
        iana::ADVERTISE | iana::REPLY | iana::RECONFIGURE => Err(Discard::ServerMessageFromClient),
        // req: RLY-8
        iana::LEASEQUERY_REPLY => Err(Discard::ServerMessageFromClient),
        // req: RLY-60
        iana::RELAY_FORW if !access.accept_relayed => Err(Discard::RelayedNotAccepted),
        iana::RELAY_REPL => Err(Discard::NotFromServer),
        // req: RLY-12
        iana::LEASEQUERY => Err(Discard::LeasequeryFromClient),
        // req: RLY-13
        iana::LEASEQUERY_DONE | iana::LEASEQUERY_DATA | iana::ACTIVELEASEQUERY | iana::STARTTLS => {
            Err(Discard::TcpOnlyType)
        }
        // req: RLY-14
        iana::RECONFIGURE_REQUEST if !access.accept_reconfigure_request => {
            Err(Discard::ReconfigureRequestRefused)
        }
        iana::RECONFIGURE_REPLY | iana::DHCPV4_RESPONSE | iana::ADDR_REG_REPLY => {
            Err(Discard::NotFromClient)
        }
        // Clients' messages, and all types that nobody told us of.
        // req: RLY-9, RLY-10, RLY-15, RLY-16
        _ => Ok(()),
    }
}

fn accept_relayed<'a>(link: &Link, datagram: &ClientDatagram<'a>) -> Result<Accepted<'a>, Discard> {
    // req: RLY-17
    let layer = RelayMessage::new(datagram.payload).map_err(|_| Discard::Malformed)?;
    if layer.hop_count >= iana::HOP_COUNT_LIMIT {
        // req: RLY-36
        return Err(Discard::HopCountLimit);
    }
    layer.read_options().map_err(|_| Discard::Malformed)?;
    let (innermost, has_rsoo) = match Innermost::descend(datagram.payload, datagram.source) {
        Ok(innermost) => (Some(innermost), innermost.has_rsoo),
        Err((DecodeError::TooDeep, _)) => return Err(Discard::Malformed),
        Err((_, has_rsoo)) => (None, has_rsoo),
    };
    if has_rsoo && !link.access.accept_rsoo {
        // req: RLY-59
        return Err(Discard::RsooRefused);
    }
    Ok(Accepted {
        hop_count: layer.hop_count + 1, // req: RLY-37
        // req: RLY-39, RLY-40, RLY-68
        link_address: if is_link_local(datagram.source) {
            link.access.link_address
        } else {
            Ipv6Addr::UNSPECIFIED
        },
        is_relayed: true,
        innermost,
    })
}

/// Wraps a datagram that may pass at the end of `out`. `None`: no datagram could hold it.
pub(crate) fn wrap(
    link: &Link,
    datagram: &ClientDatagram<'_>,
    accepted: &Accepted<'_>,
    out: &mut Vec<u8>,
) -> Option<Range<usize>> {
    let mut writer = RelayWriter::relay_forw(
        out,
        accepted.hop_count,
        accepted.link_address,
        datagram.source, // req: RLY-18, RLY-38
    );
    // Always there: link-address alone names the link only while no other interface shares it,
    // and never names the tags.
    // req: RLY-23, RLY-27
    if datagram.vlans.is_empty() {
        writer.encoded(&link.interface_id_option);
    } else {
        writer.option_with(iana::OPTION_INTERFACE_ID, |out| {
            link.write_interface_id(out, datagram.vlans);
        });
    }
    if let Some(mac) = datagram.mac
        && link.access.client_link_layer_address
        && !accepted.is_relayed
    // req: RLY-56
    {
        let ([a, b], [c, d, e, f, g, h]) = (iana::HARDWARE_TYPE_ETHERNET, mac.0);
        // req: RLY-25
        writer.option(
            iana::OPTION_CLIENT_LINKLAYER_ADDR,
            &[a, b, c, d, e, f, g, h],
        );
    }
    if let Some(template) = &link.remote_id
        && template.applies(datagram.mac, datagram.vlans)
    {
        writer.option_with(iana::OPTION_REMOTE_ID, |out| {
            template.write(out, datagram.mac, datagram.vlans);
        });
    }
    writer.encoded(&link.fixed_options);
    if accepted.is_relayed && datagram.source_port != iana::SERVER_PORT {
        // Our own port toward the servers is always 547, so only the downstream relay's matters.
        // req: RLY-72, RLY-73, RLY-77
        writer.option(iana::OPTION_RELAY_PORT, &datagram.source_port.to_be_bytes());
    }
    // req: RLY-19, RLY-41, RLY-6, RLY-78, PDR-G-1
    writer.finish(datagram.payload)
}
