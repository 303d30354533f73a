//! Identity associations, leases and status codes (RFC 8415 §21.4 to §21.6, §21.13, §21.21,
//! §21.22) as borrowed views. Says what stands there, not whether a client may use it.
//!
//! ```text
//! IA_NA, IA_PD: IAID(4) T1(4) T2(4) options      IA_TA: IAID(4) options
//! IAADDR:   address(16) preferred(4) valid(4) options
//! IAPREFIX: preferred(4) valid(4) length(1) prefix(16) options
//! ```

use core::net::Ipv6Addr;

use crate::error::DecodeError;
use crate::types::{IaType, Iaid};
use crate::wire::iana;
use crate::wire::options::{Options, RawOption};

/// One identity association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ia<'a> {
    /// Which option it is.
    pub ia_type: IaType,
    /// Its identifier.
    pub iaid: Iaid,
    /// T1 in seconds, 0 for IA_TA.
    pub t1_secs: u32,
    /// T2 in seconds, 0 for IA_TA.
    pub t2_secs: u32,
    options: &'a [u8],
}

/// One leased address or prefix as the option states it, nothing judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseOption {
    /// An IAADDR, not an IAPREFIX.
    pub is_address: bool,
    /// Address or prefix, host bits as they came.
    pub address: Ipv6Addr,
    /// Prefix length; 128 for an address. May be beyond 128.
    pub bits: u8,
    /// Preferred lifetime in seconds.
    pub preferred_secs: u32,
    /// Valid lifetime in seconds.
    pub valid_secs: u32,
    /// Status Code inside this lease.
    pub status: u16,
}

impl<'a> Ia<'a> {
    /// Reads an option that may be an IA; `Ok(None)` where it is another.
    ///
    /// # Errors
    /// An IA shorter than its fixed part.
    pub fn read(option: RawOption<'a>) -> Result<Option<Self>, DecodeError> {
        let ia_type = match option.code {
            iana::OPTION_IA_NA => IaType::Na,
            iana::OPTION_IA_TA => IaType::Ta,
            iana::OPTION_IA_PD => IaType::Pd,
            _ => return Ok(None),
        };
        let (iaid, rest) = take_u32(option.data)?;
        let (t1_secs, t2_secs, options) = if ia_type == IaType::Ta {
            (0, 0, rest)
        } else {
            let (t1_secs, rest) = take_u32(rest)?;
            let (t2_secs, rest) = take_u32(rest)?;
            (t1_secs, t2_secs, rest)
        };
        Ok(Some(Self {
            ia_type,
            iaid: Iaid(iaid),
            t1_secs,
            t2_secs,
            options,
        }))
    }

    /// The Status Code of the IA, Success where it has none (RFC 8415 §7.5).
    ///
    /// # Errors
    /// The first unsound option before it.
    pub fn status(&self) -> Result<u16, DecodeError> {
        status(self.options)
    }

    /// The leases in wire order, of the kind that belongs into this IA. After an error it ends.
    pub fn leases(&self) -> impl Iterator<Item = Result<LeaseOption, DecodeError>> + use<'a> {
        let belongs = match self.ia_type {
            IaType::Na | IaType::Ta => iana::OPTION_IAADDR,
            IaType::Pd => iana::OPTION_IAPREFIX,
        };
        Options::new(self.options).filter_map(move |option| match option {
            Err(error) => Some(Err(error)),
            Ok(option) if option.code == belongs => LeaseOption::read(option).transpose(),
            Ok(_) => None,
        })
    }
}

impl LeaseOption {
    /// Reads an option that may be a lease; `Ok(None)` where it is another.
    ///
    /// # Errors
    /// A lease shorter than its fixed part, or with unsound options inside.
    pub fn read(option: RawOption<'_>) -> Result<Option<Self>, DecodeError> {
        match option.code {
            iana::OPTION_IAADDR => read_address(option.data).map(Some),
            iana::OPTION_IAPREFIX => read_prefix(option.data).map(Some),
            _ => Ok(None),
        }
    }
}

/// The first Status Code among `options`, Success where there is none.
///
/// # Errors
/// The first unsound option before it, or a Status Code that holds no code.
pub fn status(options: &[u8]) -> Result<u16, DecodeError> {
    match Options::new(options).find(iana::OPTION_STATUS_CODE)? {
        Some(data) => read_status(data),
        None => Ok(iana::STATUS_SUCCESS),
    }
}

/// The code in the data of a Status Code option.
///
/// # Errors
/// The data holds no code.
pub fn read_status(data: &[u8]) -> Result<u16, DecodeError> {
    let code = data.first_chunk().copied().map(u16::from_be_bytes);
    code.ok_or(DecodeError::Truncated { at: 0, need: 2 })
}

fn read_address(data: &[u8]) -> Result<LeaseOption, DecodeError> {
    let (address, rest) = take_address(data)?;
    let (preferred_secs, rest) = take_u32(rest)?;
    let (valid_secs, options) = take_u32(rest)?;
    Ok(LeaseOption {
        is_address: true,
        address,
        bits: 128,
        preferred_secs,
        valid_secs,
        status: status(options)?,
    })
}

fn read_prefix(data: &[u8]) -> Result<LeaseOption, DecodeError> {
    let (preferred_secs, rest) = take_u32(data)?;
    let (valid_secs, rest) = take_u32(rest)?;
    let (bits, rest) = rest
        .split_first()
        .ok_or(DecodeError::Truncated { at: 8, need: 1 })?;
    let (address, options) = take_address(rest)?;
    Ok(LeaseOption {
        is_address: false,
        address,
        bits: *bits,
        preferred_secs,
        valid_secs,
        status: status(options)?,
    })
}

fn take_u32(data: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let (value, rest) = data
        .split_first_chunk()
        .ok_or(DecodeError::Truncated { at: 0, need: 4 })?;
    Ok((u32::from_be_bytes(*value), rest))
}

fn take_address(data: &[u8]) -> Result<(Ipv6Addr, &[u8]), DecodeError> {
    let (value, rest) = data
        .split_first_chunk::<16>()
        .ok_or(DecodeError::Truncated { at: 0, need: 16 })?;
    Ok((Ipv6Addr::from(*value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn ia_pd_of_vector_r3_reads_as_stated() {
        let data = [
            0, 0, 0, 1, 0, 0, 7, 8, 0, 0, 0x0b, 0x40, 0, 26, 0, 25, 0, 0, 0x0e, 0x10, 0, 0, 0x1c,
            0x20, 0x38, 0x20, 1, 0x0d, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let option = RawOption {
            code: iana::OPTION_IA_PD,
            data: &data,
        };

        let ia = Ia::read(option).unwrap().unwrap();
        let leases: Vec<_> = ia.leases().collect();

        assert_eq!(
            (ia.iaid, ia.t1_secs, ia.t2_secs, ia.status()),
            (Iaid(1), 1800, 2880, Ok(0))
        );
        assert_eq!(
            leases,
            [Ok(LeaseOption {
                is_address: false,
                address: "2001:db8:100::".parse().unwrap(),
                bits: 56,
                preferred_secs: 3600,
                valid_secs: 7200,
                status: 0
            })]
        );
    }

    #[test]
    fn ia_ta_has_no_timers() {
        let option = RawOption {
            code: iana::OPTION_IA_TA,
            data: &[0, 0, 0, 9],
        };

        assert_eq!(Ia::read(option).unwrap().unwrap().iaid, Iaid(9));
    }

    proptest! {
        #[test]
        fn ia_is_total_on_arbitrary_bytes(code in 0u16..30, data in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(Some(ia)) = Ia::read(RawOption { code, data: &data }) {
                let _ = ia.status();
                let _ = ia.leases().count();
            }
        }
    }
}
