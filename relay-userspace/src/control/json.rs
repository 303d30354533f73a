//! The JSON of the control socket: stable names, addresses and prefixes as text, times as RFC 3339
//! UTC, durations in seconds. Shared by the daemon, which writes it, and the command line, which
//! reads it. Decides no content.

use std::net::Ipv6Addr;

use relay_common::net::VlanTags;
use relay_core::input::RouteRefusal;
use relay_core::time::Instant;
use relay_core::types::IaType;
use relay_core::view::{BindingView, RouteState, SubscriberView};
use serde::{Deserialize, Serialize};

use super::dataplane::Traffic;
use crate::names::Names;
use crate::wall_time::WallTime;

/// A client with its leases: an element of `show subscribers`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SubscriberRow {
    /// Who and where.
    #[serde(flatten)]
    pub client: ClientFields,
    /// Its leases.
    pub bindings: Vec<LeaseFields>,
}

/// A lease with its client folded in: an element of `show bindings`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BindingRow {
    /// Who and where.
    #[serde(flatten)]
    pub client: ClientFields,
    /// The lease.
    #[serde(flatten)]
    pub lease: LeaseFields,
}

/// Who holds leases, and where it is attached.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClientFields {
    /// Hex with colons.
    pub duid: String,
    /// Access interface.
    pub interface: String,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// As sent to the servers.
    pub link_address: Ipv6Addr,
    /// Link-local address.
    pub client_address: Ipv6Addr,
    /// Source MAC of the last message.
    pub mac: Option<String>,
    /// Text where it is printable, else hex with colons.
    pub interface_id: String,
    /// Likewise.
    pub remote_id: Option<String>,
    /// Likewise.
    pub subscriber_id: Option<String>,
}

/// One lease.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LeaseFields {
    /// `IA_NA`, `IA_TA`, `IA_PD`.
    #[serde(rename = "type")]
    pub ia_type: String,
    /// Identity association.
    pub iaid: u32,
    /// With length; an address has /128.
    pub prefix: String,
    /// `active`, `expired`, `released`, `declined`.
    pub state: String,
    /// `snooped`, `active-leasequery:NAME`, `bulk-leasequery:NAME`, `leasequery:NAME`.
    pub origin: String,
    /// Address of the server that gave it.
    pub server: Ipv6Addr,
    /// Client's last transaction time.
    pub cltt: Option<String>,
    /// `null` where infinite.
    pub preferred_until: Option<String>,
    /// `null` where infinite.
    pub valid_until: Option<String>,
    /// Whole seconds of the valid lifetime that are left; `null` where infinite.
    pub remaining: Option<u64>,
    /// `installed`, `pending`, `disabled`, `failed`.
    pub route: String,
    /// With `failed` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_error: Option<String>,
    /// What was counted; not in events.
    #[serde(flatten)]
    pub traffic: Option<Traffic>,
}

/// A client and all its leases.
pub fn subscriber_row(
    clock: &WallTime,
    names: &Names,
    subscriber: &SubscriberView,
) -> SubscriberRow {
    SubscriberRow {
        client: client_fields(names, subscriber),
        bindings: subscriber
            .bindings
            .iter()
            .map(|binding| lease_fields(clock, names, binding))
            .collect(),
    }
}

/// One lease with its client.
pub fn binding_row(
    clock: &WallTime,
    names: &Names,
    subscriber: &SubscriberView,
    binding: &BindingView,
) -> BindingRow {
    BindingRow {
        client: client_fields(names, subscriber),
        lease: lease_fields(clock, names, binding),
    }
}

/// The client part.
pub fn client_fields(names: &Names, subscriber: &SubscriberView) -> ClientFields {
    ClientFields {
        duid: colon_hex(&subscriber.duid),
        interface: names.access(subscriber.link.access),
        vlans: vids(&subscriber.link.vlans),
        link_address: subscriber.link_address,
        client_address: subscriber.client_address,
        mac: subscriber.mac.map(|mac| mac.to_string()),
        interface_id: readable(&subscriber.interface_id),
        remote_id: subscriber.remote_id.as_deref().map(readable),
        subscriber_id: subscriber.subscriber_id.as_deref().map(readable),
    }
}

/// The lease part.
pub fn lease_fields(clock: &WallTime, names: &Names, binding: &BindingView) -> LeaseFields {
    let (route, route_error) = route_text(binding.route);
    LeaseFields {
        ia_type: binding.ia_type.name().to_owned(),
        iaid: binding.iaid.0,
        prefix: binding.prefix.to_string(),
        state: binding.state.name().to_owned(),
        origin: names.origin(binding.origin),
        server: binding.server_address,
        cltt: clock.rfc3339(binding.cltt),
        preferred_until: clock.rfc3339(binding.preferred_until),
        valid_until: clock.rfc3339(binding.valid_until),
        remaining: (binding.valid_until != Instant::NEVER)
            .then(|| clock.until(binding.valid_until).as_secs()),
        route: route.to_owned(),
        route_error,
        traffic: None,
    }
}

/// What became of a route, and why.
pub fn route_text(route: RouteState) -> (&'static str, Option<String>) {
    match route {
        RouteState::Installed => ("installed", None),
        RouteState::Pending => ("pending", None),
        RouteState::Disabled => ("disabled", None),
        RouteState::Failed(refusal) => ("failed", Some(refusal_text(refusal))),
    }
}

/// Why the kernel holds no route, for people.
pub fn refusal_text(refusal: RouteRefusal) -> String {
    match refusal {
        RouteRefusal::ForeignRoute => "a route that is not ours has this destination".to_owned(),
        RouteRefusal::ForeignNetwork => {
            "overlaps the network of another interface of this router".to_owned()
        }
        RouteRefusal::NotAllowed => "outside [routes] allowed".to_owned(),
        RouteRefusal::NoVlanInterface => "no interface for VLAN".to_owned(),
        RouteRefusal::NoInterface => "the access interface does not exist".to_owned(),
        RouteRefusal::Superseded => "leased again later, to another client".to_owned(),
        RouteRefusal::NotFirstHop => "the client is behind another relay".to_owned(),
        RouteRefusal::NotMapped => "a peer told it, and its link is none of ours".to_owned(),
        RouteRefusal::ClientLimit => "over max_leases_per_client".to_owned(),
        RouteRefusal::InterfaceLimit => "over max_leases_per_interface".to_owned(),
        RouteRefusal::TableFull => "over max_bindings".to_owned(),
        RouteRefusal::Kernel(errno) => {
            let error = nix::errno::Errno::from_raw(errno);
            format!("the kernel refused: {} ({error})", error.desc())
        }
    }
}

/// `00:03:00:01`.
pub fn colon_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            text.push(':');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes of `00:03`, `0003` or `00 03`; `None` where it is no even number of hex digits.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | ' '))
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

/// Printable ASCII as it is, everything else as hex.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            text.to_owned()
        }
        _ => colon_hex(bytes),
    }
}

fn vids(vlans: &VlanTags) -> Vec<u16> {
    vlans.iter().map(|tag| tag.vid).collect()
}

/// By the name that `show` prints.
pub fn ia_type_by_name(name: &str) -> Option<IaType> {
    [IaType::Na, IaType::Ta, IaType::Pd]
        .into_iter()
        .find(|ia_type| ia_type.name() == name)
}
