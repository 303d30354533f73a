//! Link-layer identities: MAC address and VLAN tags.

use core::fmt;

/// 802.1Q customer tag.
pub const TPID_8021Q: u16 = 0x8100;
/// 802.1ad service tag.
pub const TPID_8021AD: u16 = 0x88a8;

/// An Ethernet address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One VLAN tag: tag protocol identifier and VLAN identifier (0 to 4095), without priority bits.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VlanTag {
    /// [`TPID_8021Q`] or [`TPID_8021AD`], host order.
    pub tpid: u16,
    /// 0 to 4095, host order.
    pub vid: u16,
}

/// The VLAN tags of a frame, outermost first; none, one or two.
///
/// An absent tag has `tpid` 0, and the inner tag is absent where the outer one is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VlanTags {
    outer_tpid: u16,
    outer_vid: u16,
    inner_tpid: u16,
    inner_vid: u16,
}

impl VlanTags {
    /// An untagged frame.
    pub const NONE: Self = Self {
        outer_tpid: 0,
        outer_vid: 0,
        inner_tpid: 0,
        inner_vid: 0,
    };

    /// A frame with one tag.
    pub const fn single(tag: VlanTag) -> Self {
        Self {
            outer_tpid: tag.tpid,
            outer_vid: tag.vid,
            inner_tpid: 0,
            inner_vid: 0,
        }
    }

    /// A frame with two tags.
    pub const fn double(outer: VlanTag, inner: VlanTag) -> Self {
        Self {
            outer_tpid: outer.tpid,
            outer_vid: outer.vid,
            inner_tpid: inner.tpid,
            inner_vid: inner.vid,
        }
    }

    /// From two pairs of tag protocol identifier and tag control information as they stand in a
    /// frame; priority bits are left out, a `tpid` of 0 is an absent tag.
    pub const fn from_tci(
        outer_tpid: u16,
        outer_tci: u16,
        inner_tpid: u16,
        inner_tci: u16,
    ) -> Self {
        let outer = VlanTag {
            tpid: outer_tpid,
            vid: outer_tci & 0x0fff,
        };
        let inner = VlanTag {
            tpid: inner_tpid,
            vid: inner_tci & 0x0fff,
        };
        match (outer_tpid, inner_tpid) {
            (0, _) => Self::NONE,
            (_, 0) => Self::single(outer),
            _ => Self::double(outer, inner),
        }
    }

    /// The outermost tag.
    pub const fn outer(&self) -> Option<VlanTag> {
        if self.outer_tpid == 0 {
            None
        } else {
            Some(VlanTag {
                tpid: self.outer_tpid,
                vid: self.outer_vid,
            })
        }
    }

    /// The tag behind the outermost one.
    pub const fn inner(&self) -> Option<VlanTag> {
        if self.inner_tpid == 0 {
            None
        } else {
            Some(VlanTag {
                tpid: self.inner_tpid,
                vid: self.inner_vid,
            })
        }
    }

    /// Number of tags: 0, 1 or 2.
    pub const fn len(&self) -> usize {
        (self.outer_tpid != 0) as usize + (self.inner_tpid != 0) as usize
    }

    /// Whether the frame is untagged.
    pub const fn is_empty(&self) -> bool {
        self.outer_tpid == 0
    }

    /// The tags, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = VlanTag> + use<> {
        [self.outer(), self.inner()].into_iter().flatten()
    }
}

impl fmt::Debug for VlanTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
