//! LQ_RELAY_DATA (RFC 5007 §4.1.2.4): how the client was relayed when it was last heard. Says what
//! the relays stated; must not know which interface that is here.
//!
//! ```text
//! 0              16
//! | peer-address | RELAY-FORW, in its Relay Message option the next, … the innermost has none
//! ```

use core::net::Ipv6Addr;

use relay_common::net::MacAddr;

use crate::error::DecodeError;
use crate::wire::iana;
use crate::wire::message::MessageWriter;
use crate::wire::options::Options;
use crate::wire::relay_msg::{MAX_LAYERS, RelayMessage};

/// The option as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayData<'a> {
    /// The relay that the answering server heard. Some servers state the outermost peer-address
    /// instead (LQ-35), so it does not identify a relay.
    pub peer_address: Ipv6Addr,
    /// All RELAY-FORW layers, as they came.
    pub relay_forw: &'a [u8],
    /// How many layers, 1 to [`MAX_LAYERS`].
    pub layers: usize,
    /// The relay next to the server.
    pub outermost: RelayHop<'a>,
    /// The relay next to the client: its peer-address is the client.
    pub innermost: RelayHop<'a>,
}

/// What one relay said of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayHop<'a> {
    /// link-address.
    pub link_address: Ipv6Addr,
    /// peer-address.
    pub peer_address: Ipv6Addr,
    /// Interface-Id (18).
    pub interface_id: Option<&'a [u8]>,
    /// Client Link-Layer Address (79), where it is an Ethernet address.
    pub mac: Option<MacAddr>,
    /// Relay Agent Remote-Id (37), enterprise number included.
    pub remote_id: Option<&'a [u8]>,
    /// Relay Agent Subscriber-Id (38).
    pub subscriber_id: Option<&'a [u8]>,
    /// Relay-Id (53).
    pub relay_id: Option<&'a [u8]>,
}

/// The option to be written, for a client that one relay heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayDataOut<'a> {
    /// Address towards servers of the relay that heard the client.
    pub peer_address: Ipv6Addr,
    /// What it told the servers.
    pub hop: RelayHop<'a>,
    /// The client, where another relay stands between: then `hop` heard that relay.
    pub client_behind: Option<Ipv6Addr>,
}

impl<'a> RelayData<'a> {
    /// Reads the data of the option.
    ///
    /// # Errors
    /// A layer that is unsound or no RELAY-FORW, or more than [`MAX_LAYERS`].
    pub(super) fn read(data: &'a [u8]) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated { at: 0, need: 16 };
        let (peer_address, relay_forw) = data.split_first_chunk::<16>().ok_or(truncated)?;
        let (outermost, mut inside) = RelayHop::read(relay_forw)?;
        let (mut innermost, mut layers) = (outermost, 1);
        while let Some(bytes) = inside {
            if layers == MAX_LAYERS {
                return Err(DecodeError::TooDeep);
            }
            layers += 1;
            (innermost, inside) = RelayHop::read(bytes)?;
        }
        Ok(Self {
            peer_address: Ipv6Addr::from(*peer_address),
            relay_forw,
            layers,
            outermost,
            innermost,
        })
    }
}

impl<'a> RelayHop<'a> {
    /// A layer that says no more than who the client is.
    const fn of(client: Ipv6Addr) -> Self {
        Self {
            link_address: Ipv6Addr::UNSPECIFIED,
            peer_address: client,
            interface_id: None,
            mac: None,
            remote_id: None,
            subscriber_id: None,
            relay_id: None,
        }
    }

    /// Reads one layer, and what its Relay Message option holds.
    fn read(bytes: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), DecodeError> {
        let layer = RelayMessage::new(bytes)?;
        if layer.message_type != iana::RELAY_FORW {
            return Err(DecodeError::NoRelayForw);
        }
        let mut inside = None;
        let mut hop = Self {
            link_address: layer.link_address,
            peer_address: layer.peer_address,
            interface_id: None,
            mac: None,
            remote_id: None,
            subscriber_id: None,
            relay_id: None,
        };
        for option in Options::new(layer.options) {
            let option = option?;
            let bytes = match option.code {
                iana::OPTION_RELAY_MSG => &mut inside,
                iana::OPTION_INTERFACE_ID => &mut hop.interface_id,
                iana::OPTION_REMOTE_ID => &mut hop.remote_id,
                iana::OPTION_SUBSCRIBER_ID => &mut hop.subscriber_id,
                iana::OPTION_RELAY_ID => &mut hop.relay_id,
                iana::OPTION_CLIENT_LINKLAYER_ADDR => {
                    hop.mac = hop.mac.or_else(|| read_ethernet(option.data));
                    continue;
                }
                _ => continue,
            };
            *bytes = bytes.or(Some(option.data));
        }
        // What else may stand there is the client's message, which should have been taken out.
        let is_layer = |bytes: &&[u8]| bytes.first() == Some(&iana::RELAY_FORW);
        Ok((hop, inside.filter(is_layer)))
    }

    fn write(&self, writer: &mut MessageWriter<'_>) {
        const HOP_COUNT: u8 = 0;
        writer.bytes(&[iana::RELAY_FORW, HOP_COUNT]);
        writer.bytes(&self.link_address.octets());
        writer.bytes(&self.peer_address.octets());
        let mut option = |code, data: Option<&[u8]>| {
            if let Some(data) = data {
                writer.option(code, data);
            }
        };
        option(iana::OPTION_INTERFACE_ID, self.interface_id);
        option(iana::OPTION_REMOTE_ID, self.remote_id);
        option(iana::OPTION_SUBSCRIBER_ID, self.subscriber_id);
        option(iana::OPTION_RELAY_ID, self.relay_id);
        if let Some(MacAddr(mac)) = self.mac {
            writer.option_with(iana::OPTION_CLIENT_LINKLAYER_ADDR, |writer| {
                writer.bytes(&iana::HARDWARE_TYPE_ETHERNET);
                writer.bytes(&mac);
            });
        }
    }
}

impl RelayDataOut<'_> {
    pub(super) fn write(&self, writer: &mut MessageWriter<'_>) {
        writer.option_with(iana::OPTION_LQ_RELAY_DATA, |writer| {
            writer.bytes(&self.peer_address.octets());
            self.hop.write(writer);
            if let Some(client) = self.client_behind {
                writer.option_with(iana::OPTION_RELAY_MSG, |writer| {
                    RelayHop::of(client).write(writer);
                });
            }
        });
    }
}

/// The address in the data of option 79 (RFC 6939 §4): link-layer type, then the address.
fn read_ethernet(data: &[u8]) -> Option<MacAddr> {
    let mac = data.strip_prefix(&iana::HARDWARE_TYPE_ETHERNET)?;
    mac.try_into().ok().map(MacAddr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, ip, option};
    use alloc::vec::Vec;

    /// RELAY-FORW from `link` for `peer`.
    fn layer(link: &str, peer: &str, options: &[Vec<u8>]) -> Vec<u8> {
        let fixed = [&[12, 0][..], &ip(link).octets(), &ip(peer).octets()].concat();
        [&fixed[..], &options.concat()].concat()
    }

    fn data(layer: &[u8]) -> Vec<u8> {
        [&ip("2001:db8:ffff::b").octets()[..], layer].concat()
    }

    fn nested(layers: usize) -> Vec<u8> {
        let mut bytes = layer("::", "fe80::c3", &[]);
        for _ in 1..layers {
            bytes = layer("::", "::", &[option(iana::OPTION_RELAY_MSG, &bytes)]);
        }
        data(&bytes)
    }

    #[test]
    fn relay_data_of_two_relays_names_both() {
        let inner = layer(
            "::",
            "fe80::c3",
            &[
                option(iana::OPTION_INTERFACE_ID, b"p7"),
                option(iana::OPTION_REMOTE_ID, b"\0\0\0\x09r"),
                option(iana::OPTION_SUBSCRIBER_ID, b"s"),
                option(
                    iana::OPTION_CLIENT_LINKLAYER_ADDR,
                    &hex("0001 0200000000c3"),
                ),
            ],
        );
        let outer = [
            option(iana::OPTION_INTERFACE_ID, b"ge-0"),
            option(iana::OPTION_RELAY_MSG, &inner),
            option(iana::OPTION_RELAY_ID, b"relay"),
        ];
        let bytes = data(&layer("2001:db8:1::1", "fe80::1", &outer));

        let read = RelayData::read(&bytes).unwrap();

        let none = RelayHop {
            link_address: ip("2001:db8:1::1"),
            peer_address: ip("fe80::1"),
            interface_id: Some(b"ge-0"),
            mac: None,
            remote_id: None,
            subscriber_id: None,
            relay_id: Some(b"relay"),
        };
        assert_eq!((read.layers, read.outermost), (2, none));
        assert_eq!(
            read.innermost,
            RelayHop {
                link_address: ip("::"),
                peer_address: ip("fe80::c3"),
                interface_id: Some(b"p7"),
                mac: Some(MacAddr([2, 0, 0, 0, 0, 0xc3])),
                remote_id: Some(b"\0\0\0\x09r"),
                subscriber_id: Some(b"s"),
                relay_id: None,
            }
        );
        assert_eq!(read.relay_forw, &bytes[16..]);
    }

    #[test]
    fn relay_data_that_still_holds_the_clients_message_is_read_without_it() {
        let message = option(iana::OPTION_RELAY_MSG, &[3, 0, 0, 1]);
        let bytes = data(&layer("::", "fe80::c3", &[message]));

        let read = RelayData::read(&bytes).unwrap();

        assert_eq!(
            (read.layers, read.innermost.peer_address),
            (1, ip("fe80::c3"))
        );
    }

    #[test]
    fn relay_data_is_followed_through_as_many_layers_as_a_message_may_have() {
        assert_eq!(
            RelayData::read(&nested(MAX_LAYERS)).unwrap().layers,
            MAX_LAYERS
        );
        let too_deep = nested(MAX_LAYERS + 1);
        assert_eq!(RelayData::read(&too_deep), Err(DecodeError::TooDeep));
    }

    #[test]
    fn relay_data_that_is_none_is_an_error() {
        let relay_repl = [&[13, 0][..], &[0; 32]].concat();
        for bytes in [
            Vec::new(),
            data(&[])[..15].to_vec(),
            data(&[]),
            data(&layer("::", "::", &[])[..33]),
            data(&relay_repl),
            data(&layer("::", "::", &[hex("0012 0009 00")])),
        ] {
            assert!(RelayData::read(&bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn link_layer_address_that_is_no_ethernet_address_is_none() {
        for (data, mac) in [
            ("0001 0200000000c3", Some(MacAddr([2, 0, 0, 0, 0, 0xc3]))),
            ("0006 0200000000c3", None),
            ("0001 0200000000", None),
            ("0001 0200000000c3 0000", None),
            ("00", None),
        ] {
            assert_eq!(read_ethernet(&hex(data)), mac, "{data}");
        }
    }
}
