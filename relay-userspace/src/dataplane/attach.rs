//! One interface's link: adopted where an earlier daemon left one, else made; native before
//! generic, with the reason where it is not the best.

use std::path::PathBuf;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::pins::Pins;
use super::{Captured, Wanted};
use crate::config::Capture;
use crate::net::ethtool::{self, Stripping};

/// Where in the kernel the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// In the driver.
    Native,
    /// In the stack, after the driver.
    Generic,
}

impl Mode {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// In the name of a pin.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }

    /// In the order of preference.
    pub(super) const fn allowed(capture: Capture) -> &'static [Self] {
        match capture {
            Capture::Auto => &Self::ALL,
            Capture::Xdp => &[Self::Native],
            Capture::XdpGeneric => &[Self::Generic],
            Capture::Socket => &[],
        }
    }
}

/// An attached program.
pub(super) struct Attached {
    mode: Mode,
    reason: Option<String>,
    stripping: Option<Stripping>,
    pin: Option<PathBuf>,
    /// Closing it detaches, unless it is pinned.
    link: FdLink,
}

impl Attached {
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn captured(&self) -> Captured {
        Captured {
            capture: self.mode.name(),
            reason: self.reason.clone(),
        }
    }

    /// Takes the program off the interface, and gives the card its offload back.
    pub(super) fn detach(self) {
        let Self {
            stripping,
            pin,
            link,
            ..
        } = self;
        drop(link);
        if let Some(pin) = pin
            && let Err(error) = std::fs::remove_file(&pin)
        {
            tracing::warn!(pin = %pin.display(), %error, "the program stays attached");
        }
        if let Some(stripping) = stripping {
            stripping.restore();
        }
    }
}

/// Attaches the program as `port` wants it.
///
/// # Errors
/// Why it is not attached, for people.
pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    port: &Wanted<'_>,
) -> Result<Attached, String> {
    let stripping = match ethtool::stop_stripping(port.name) {
        Ok(stripping) => stripping,
        // Tagged clients would look untagged, and their answers would go to the wrong place.
        Err(reason) if port.capture == Capture::Auto => return Err(reason),
        Err(reason) => {
            tracing::warn!(
                interface = port.name,
                reason,
                "tagged clients cannot be told from untagged ones"
            );
            None
        }
    };
    let modes = Mode::allowed(port.capture);
    let mut attempts = Vec::new();
    let adopted = modes.iter().find_map(|&mode| {
        let link = adopt(program, pins, port, mode)?;
        Some((mode, link, pins.link(port.role, port.ifindex.0, mode)))
    });
    let link = adopted.or_else(|| {
        modes.iter().find_map(|&mode| {
            let made = make(program, port.ifindex.0, mode)
                .and_then(|link| pin(program, link, pins, port, mode));
            match made {
                Ok((link, pin)) => Some((mode, link, pin)),
                Err(error) => {
                    let refused = explain(&error, port.name);
                    attempts.push(format!("{} XDP: {refused}", mode.word()));
                    None
                }
            }
        })
    });
    let reason = (!attempts.is_empty()).then(|| attempts.join("; "));
    if let Some((mode, link, pin)) = link {
        return Ok(Attached {
            mode,
            reason,
            stripping,
            pin,
            link,
        });
    }
    if let Some(stripping) = stripping {
        stripping.restore();
    }
    Err(reason.unwrap_or_else(|| "no XDP mode is allowed".to_owned()))
}

/// Takes over a pinned link: one update in the kernel, no frame falls between.
fn adopt(program: &mut Xdp, pins: &Pins, port: &Wanted<'_>, mode: Mode) -> Option<FdLink> {
    let path = pins.link(port.role, port.ifindex.0, mode);
    let path = path.filter(|path| path.exists())?;
    let mut take_over = || -> anyhow::Result<FdLink> {
        let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(&path)?))?;
        let id = program.attach_to_link(link)?;
        Ok(FdLink::try_from(program.take_link(id)?)?)
    };
    match take_over() {
        Ok(link) => Some(link),
        Err(error) => {
            // The interface of that link is gone and another one has its number.
            tracing::debug!(pin = %path.display(), %error, "a pinned link is of no use");
            let _ = std::fs::remove_file(&path);
            None
        }
    }
}

fn make(program: &mut Xdp, ifindex: u32, mode: Mode) -> Result<FdLink, ProgramError> {
    let id = program.attach_to_if_index(ifindex, mode.flag())?;
    // Kernels before 5.9 have no links of XDP, and aya falls back to netlink there.
    FdLink::try_from(program.take_link(id)?).map_err(|_| ProgramError::NotAttached)
}

/// Pins a link where that is possible.
fn pin(
    program: &mut Xdp,
    link: FdLink,
    pins: &Pins,
    port: &Wanted<'_>,
    mode: Mode,
) -> Result<(FdLink, Option<PathBuf>), ProgramError> {
    let Some(path) = pins.link(port.role, port.ifindex.0, mode) else {
        return Ok((link, None));
    };
    match link.pin(&path) {
        Ok(pinned) => Ok((FdLink::from(pinned), Some(path))),
        Err(error) => {
            tracing::warn!(
                interface = port.name, pin = %path.display(), %error,
                "cannot pin the program: it ends with the daemon"
            );
            // The link that could not be pinned is closed, and with it the program was detached.
            Ok((make(program, port.ifindex.0, mode)?, None))
        }
    }
}

fn explain(error: &ProgramError, interface: &str) -> String {
    let errno = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match errno {
        Some(libc::EBUSY | libc::EEXIST) => {
            format!("another program is attached (bpftool net show dev {interface} says which)")
        }
        Some(libc::EOPNOTSUPP) => "the driver does not support it".to_owned(),
        Some(libc::EPERM) => "not permitted: CAP_NET_ADMIN and CAP_BPF are needed".to_owned(),
        Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        None => error.to_string(),
    }
}
