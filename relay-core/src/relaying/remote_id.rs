//! The Remote-Id of a client (RFC 4649): a template, taken apart once per configuration.
//!
//! Decides only how the text is filled in; must not know where it is sent.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use relay_common::net::{MacAddr, VlanTags};

use crate::config::RemoteId;

/// A Remote-Id template in parts.
#[derive(Debug)]
pub(crate) struct Template {
    enterprise: u32,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Vec<u8>),
    Mac,
    OuterVid,
    InnerVid,
}

impl Template {
    /// Takes `remote_id` apart for the interface called `interface`.
    pub(crate) fn new(remote_id: &RemoteId, interface: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = remote_id.template.as_str();
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            push_text(&mut parts, before);
            let known = [
                ("{mac}", Some(Part::Mac)),
                ("{svlan}", Some(Part::OuterVid)),
                ("{cvlan}", Some(Part::InnerVid)),
                ("{interface}", None),
            ]
            .into_iter()
            .find_map(|(name, part)| Some((from.strip_prefix(name)?, part)));
            rest = match known {
                Some((rest, Some(part))) => {
                    parts.push(part);
                    rest
                }
                Some((rest, None)) => {
                    push_text(&mut parts, interface);
                    rest
                }
                None => {
                    push_text(&mut parts, "{");
                    from.get(1..).unwrap_or_default()
                }
            };
        }
        push_text(&mut parts, rest);
        Self {
            enterprise: remote_id.enterprise,
            parts,
        }
    }

    /// Whether a text comes out at all: a Remote-Id that should name a MAC is not sent without
    /// one, because a shorter text would be another client's identity; nor is an empty one.
    pub(crate) fn applies(&self, mac: Option<MacAddr>, vlans: VlanTags) -> bool {
        let mut any = false;
        for part in &self.parts {
            any |= match part {
                Part::Text(_) => true,
                Part::Mac if mac.is_none() => return false,
                Part::Mac => true,
                Part::OuterVid => vlans.outer().is_some(),
                Part::InnerVid => vlans.inner().is_some(),
            };
        }
        any
    }

    /// Appends the data of the option: enterprise number and text.
    // req: RLY-52
    pub(crate) fn write(&self, out: &mut Vec<u8>, mac: Option<MacAddr>, vlans: VlanTags) {
        out.extend_from_slice(&self.enterprise.to_be_bytes());
        self.write_text(out, mac, vlans);
    }

    /// Appends the text alone.
    pub(crate) fn write_text(&self, out: &mut Vec<u8>, mac: Option<MacAddr>, vlans: VlanTags) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Mac => mac.into_iter().for_each(|mac| append(out, mac)),
                Part::OuterVid => vlans
                    .outer()
                    .into_iter()
                    .for_each(|tag| append(out, tag.vid)),
                Part::InnerVid => vlans
                    .inner()
                    .into_iter()
                    .for_each(|tag| append(out, tag.vid)),
            }
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.extend_from_slice(text.as_bytes()),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.as_bytes().to_vec())),
    }
}

/// Appends `value` as text.
pub(crate) fn append(out: &mut Vec<u8>, value: impl fmt::Display) {
    struct Text<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // `Text` never fails, and neither do the `Display`s of numbers and MAC addresses.
    let _ = write!(Text(out), "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTag};

    fn filled(template: &str, mac: Option<MacAddr>, vlans: VlanTags) -> Option<Vec<u8>> {
        let remote_id = RemoteId {
            enterprise: 9,
            template: template.into(),
        };
        let template = Template::new(&remote_id, "acc0");
        let mut out = Vec::new();
        template.write_text(&mut out, mac, vlans);
        template.applies(mac, vlans).then_some(out)
    }

    #[test]
    fn rly_52_template_fills_all_placeholders() {
        let vlans = VlanTags::double(
            VlanTag {
                tpid: TPID_8021AD,
                vid: 100,
            },
            VlanTag {
                tpid: TPID_8021Q,
                vid: 7,
            },
        );

        let text = filled(
            "{interface}/{svlan}.{cvlan}/{mac}{x}",
            Some(MacAddr([2, 0, 0, 0, 0, 0xc3])),
            vlans,
        );

        assert_eq!(
            text.as_deref(),
            Some(&b"acc0/100.7/02:00:00:00:00:c3{x}"[..])
        );
    }

    #[test]
    fn rly_52_template_without_its_mac_or_text_is_not_sent() {
        assert_eq!(filled("x-{mac}", None, VlanTags::NONE), None);
        assert_eq!(filled("{svlan}", None, VlanTags::NONE), None);
        assert_eq!(filled("", None, VlanTags::NONE), None);
    }
}
