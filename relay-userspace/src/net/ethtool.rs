//! Tag stripping of network cards (`rx-vlan-hw-parse`): where it is on, a card takes VLAN tags off
//! before XDP sees the frame, and a tagged client would look like an untagged one.
//!
//! Decides nothing but whether the offload is on, and turns it off and back on.

use std::io;
use std::mem::zeroed;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const SET_FEATURES: u32 = 4;
const NAME_BYTES: usize = 32;
/// More features than any kernel knows.
const FEATURES_MAX: u32 = 1024;
/// 802.1Q and 802.1ad.
const STRIPPING: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// Features that were turned off, to be turned on again.
#[derive(Debug)]
pub struct Stripping {
    interface: String,
    features: u32,
    bits: Vec<u32>,
}

/// Turns tag stripping off where it is on. `Ok(None)`: it was off, or the interface has none.
///
/// # Errors
/// It is on and stays on; the text says why.
pub fn stop_stripping(interface: &str) -> Result<Option<Stripping>, String> {
    // An interface that cannot be asked (no ethtool at all) is software and strips nothing.
    let Ok(features) = feature_count(interface) else {
        return Ok(None);
    };
    let Ok(bits) = stripping_bits(interface, features) else {
        return Ok(None);
    };
    let active = active_of(interface, features, &bits).unwrap_or_default();
    if active.is_empty() {
        return Ok(None);
    }
    let stripping = Stripping {
        interface: interface.to_owned(),
        features,
        bits: active,
    };
    let changed = set(interface, features, &stripping.bits, false);
    match active_of(interface, features, &stripping.bits) {
        Ok(left) if left.is_empty() => Ok(Some(stripping)),
        _ => Err(match changed {
            Err(error) => {
                format!("the card strips VLAN tags and this cannot be turned off: {error}")
            }
            Ok(()) => "the card strips VLAN tags and does not let go of it".to_owned(),
        }),
    }
}

impl Stripping {
    /// Turns on again what [`stop_stripping`] turned off.
    pub fn restore(&self) {
        if let Err(error) = set(&self.interface, self.features, &self.bits, true) {
            tracing::debug!(interface = %self.interface, %error, "tag stripping stays off");
        }
    }
}

fn feature_count(interface: &str) -> io::Result<u32> {
    // cmd | reserved | mask (2 words) | count
    let mut request = [GSSET_INFO, 0, 1 << SET_FEATURES, 0, 0];
    call(interface, &mut request)?;
    Ok(request[4].min(FEATURES_MAX))
}

fn stripping_bits(interface: &str, features: u32) -> io::Result<Vec<u32>> {
    // cmd | set | count | names
    let words = features as usize * NAME_BYTES / 4;
    let mut request = vec![0; 3 + words];
    request[..3].copy_from_slice(&[GSTRINGS, SET_FEATURES, features]);
    call(interface, &mut request)?;
    let bytes: Vec<u8> = request[3..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let is_stripping = |name: &[u8]| {
        let end = name.iter().position(|&byte| byte == 0);
        let name = &name[..end.unwrap_or(name.len())];
        STRIPPING.iter().any(|known| known.as_bytes() == name)
    };
    Ok((0..features)
        .zip(bytes.chunks_exact(NAME_BYTES))
        .filter(|(_, name)| is_stripping(name))
        .map(|(bit, _)| bit)
        .collect())
}

fn active_of(interface: &str, features: u32, bits: &[u32]) -> io::Result<Vec<u32>> {
    // cmd | blocks | blocks of (available, requested, active, never changed)
    let blocks = features.div_ceil(32);
    let mut request = vec![0; 2 + 4 * blocks as usize];
    request[..2].copy_from_slice(&[GFEATURES, blocks]);
    call(interface, &mut request)?;
    let is_active = |bit: u32| {
        let block = 2 + 4 * (bit / 32) as usize;
        request
            .get(block + 2)
            .is_some_and(|word| word >> (bit % 32) & 1 == 1)
    };
    Ok(bits.iter().copied().filter(|&bit| is_active(bit)).collect())
}

fn set(interface: &str, features: u32, bits: &[u32], on: bool) -> io::Result<()> {
    // cmd | blocks | blocks of (valid, requested)
    let blocks = features.div_ceil(32);
    let mut request = vec![0; 2 + 2 * blocks as usize];
    request[..2].copy_from_slice(&[SFEATURES, blocks]);
    for bit in bits {
        let block = 2 + 2 * (bit / 32) as usize;
        request[block] |= 1 << (bit % 32);
        request[block + 1] |= u32::from(on) << (bit % 32);
    }
    call(interface, &mut request)
}

fn call(interface: &str, request: &mut [u32]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut ifreq: libc::ifreq = unsafe { zeroed() };
    // One byte stays zero: the name ends there.
    let room = ifreq.ifr_name.len() - 1;
    for (to, from) in ifreq.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: `request` is as long as its own counts say, so the kernel stays inside it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &mut ifreq) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
