//! What single values of the file may be: names, addresses, prefixes, templates, filters. Pure
//! functions from text; `None` means "not one".

use std::net::Ipv6Addr;
use std::path::PathBuf;

use relay_core::types::Prefix;

/// The kernel's IFNAMSIZ, without the terminating zero.
const INTERFACE_NAME_MAX: usize = 15;

/// What stands for something in `remote_id`.
pub(super) const PLACEHOLDERS: [&str; 4] = ["mac", "interface", "svlan", "cvlan"];

pub(super) const INTERFACE: &str = "an interface name, 1 to 15 characters without `/` or spaces";

/// A name that the kernel would take.
pub(super) fn interface(text: &str) -> Option<String> {
    let fits = (1..=INTERFACE_NAME_MAX).contains(&text.len());
    let plain = !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    (fits && plain && text != "." && text != "..").then(|| text.to_owned())
}

pub(super) const NAME: &str = "a name, 1 to 64 letters, digits, `-`, `_`, `.` or `:`";

/// A name that fits into a label.
pub(super) fn name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then(|| text.to_owned())
}

pub(super) const SERVER_ADDRESS: &str =
    "an IPv6 address such as \"2001:db8:ff::11\" or \"ff05::1:3\"";

/// A unicast or multicast address that a server may have.
pub(super) fn server_address(text: &str) -> Option<Ipv6Addr> {
    text.parse()
        .ok()
        .filter(|address: &Ipv6Addr| !address.is_unspecified())
}

pub(super) const OWN_ADDRESS: &str = "a global or unique local IPv6 unicast address of this router";

/// A unicast address that means the same on every link.
pub(super) fn own_address(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().filter(|address: &Ipv6Addr| {
        !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
            && !address.is_unicast_link_local()
            && address.to_ipv4_mapped().is_none()
    })
}

pub(super) const PREFIX: &str = "an IPv6 prefix with zero host bits such as \"2001:db8::/32\"";

/// A prefix without host bits.
pub(super) fn prefix(text: &str) -> Option<Prefix> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let prefix = Prefix::new(address, bits.parse().ok()?)?;
    (prefix.address() == address).then_some(prefix)
}

pub(super) const SOURCE: &str = "an IPv6 address or prefix";

/// An address or a prefix.
pub(super) fn source(text: &str) -> Option<Prefix> {
    prefix(text).or_else(|| text.parse().ok().map(Prefix::host))
}

pub(super) const PATH: &str = "an absolute path";

/// A path from the root.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

/// DUIDs have 2 bytes of type and 1 to 128 bytes (RFC 8415 §11.1).
pub(super) const RELAY_ID: &str = "\"auto\", or a DUID of 3 to 130 bytes in hex";

/// `Some(None)` for `auto`.
pub(super) fn relay_id(text: &str) -> Option<Option<Vec<u8>>> {
    if text == "auto" {
        return Some(None);
    }
    crate::control::json::parse_hex(text)
        .filter(|bytes| (3..=130).contains(&bytes.len()))
        .map(Some)
}

/// The first `{…}` of a template that stands for nothing, or a brace without its other half.
pub(super) fn unknown_placeholder(template: &str) -> Option<&str> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let from = &rest[at..];
        let Some(end) = from.find('}').filter(|_| from.starts_with('{')) else {
            return Some(&from[..1]);
        };
        if !PLACEHOLDERS.contains(&&from[1..end]) {
            return Some(&from[..=end]);
        }
        rest = &from[end + 1..];
    }
    None
}

pub(super) const LEVEL: &str =
    "off, error, warn, info, debug or trace, or a filter such as \"info,relay_userspace=debug\"";

/// A `tracing` filter. A bare word must be a level: the filter's own grammar would take a
/// misspelt level for the name of a module.
pub(super) fn level(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let sound = text
        .split(',')
        .map(str::trim)
        .all(|part| part.contains(['=', '[']) || LEVELS.contains(&part.to_lowercase().as_str()));
    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
    (sound && parsed.is_ok()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_with_unknown_placeholder_names_it() {
        assert_eq!(
            unknown_placeholder("{interface}-{mac} {svlan}.{cvlan}"),
            None
        );
        assert_eq!(unknown_placeholder("port {port}"), Some("{port}"));
        assert_eq!(unknown_placeholder("open {mac"), Some("{"));
        assert_eq!(unknown_placeholder("mac}"), Some("}"));
    }

    #[test]
    fn level_that_is_misspelt_is_refused() {
        assert!(level("info").is_some());
        assert!(level("relay_userspace::routes=trace,info").is_some());
        assert!(level("inof").is_none());
    }

    #[test]
    fn prefix_with_host_bits_is_refused() {
        assert!(prefix("2001:db8::/32").is_some());
        assert!(prefix("2001:db8::1/32").is_none());
        assert!(prefix("2001:db8::/129").is_none());
        assert!(prefix("2001:db8::").is_none());
    }
}
