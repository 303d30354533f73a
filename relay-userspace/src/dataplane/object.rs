//! The kernel programs as build.rs embedded them.

/// The object; `None` in a development build without one.
#[cfg(embedded_bpf)]
pub(super) fn object() -> Option<&'static [u8]> {
    static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/relay.o"));
    Some(OBJECT)
}

/// The object; `None` in a development build without one.
#[cfg(not(embedded_bpf))]
pub(super) fn object() -> Option<&'static [u8]> {
    None
}
