//! Netlink messages as bytes: a writer of batches and a reader that cannot leave its buffer.
//!
//! Decides layout only (`<linux/netlink.h>`, `<linux/rtnetlink.h>`); what a message means is the
//! business of its users. All integers are in host order, as netlink wants them.

/// `struct nlmsghdr`: 4-byte length | 2-byte type | 2-byte flags | 4-byte sequence | 4-byte port.
pub const HEADER_LEN: usize = 16;
/// Everything is padded to this.
const ALIGN: usize = 4;
/// Set on attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are not flags.
const TYPE_MASK: u16 = 0x3fff;

const fn aligned(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Messages one behind the other, ready for one `send`.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the last message starts.
    last: usize,
}

impl Batch {
    /// Forgets all messages, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0;
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts a message; `fixed` is the family's own header behind the netlink header.
    pub fn begin(&mut self, message_type: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&message_type.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        self.close();
    }

    /// Adds an attribute to the message begun last.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("our attributes are short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self.close();
    }

    /// Adds an attribute that is a number.
    pub fn attribute_u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds flags to the message begun last: the last of a batch asks for the acknowledgement.
    pub fn add_flags(&mut self, flags: u16) {
        let at = self.last + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    fn close(&mut self) {
        let len = u32::try_from(self.bytes.len() - self.last).expect("a batch is far below 4 GiB");
        self.bytes[self.last..self.last + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// RTM_*, NLMSG_*.
    pub message_type: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// Of the request that it answers.
    pub sequence: u32,
    /// Behind the netlink header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The errno (positive, 0 for an acknowledgement) of an NLMSG_ERROR.
    pub fn errno(&self) -> Option<i32> {
        if i32::from(self.message_type) != libc::NLMSG_ERROR {
            return None;
        }
        Some(-i32::from_ne_bytes(fixed(self.body, 0)?))
    }

    /// The attributes behind a fixed part of `fixed_len` bytes.
    pub fn attributes(&self, fixed_len: usize) -> Attributes<'a> {
        Attributes(self.body.get(aligned(fixed_len)..).unwrap_or_default())
    }
}

/// The messages of a received datagram; stops at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = usize::try_from(u32::from_ne_bytes(fixed(self.0, 0)?)).ok()?;
        let body = self.0.get(HEADER_LEN..len)?;
        let message = Message {
            message_type: u16::from_ne_bytes(fixed(self.0, 4)?),
            flags: u16::from_ne_bytes(fixed(self.0, 6)?),
            sequence: u32::from_ne_bytes(fixed(self.0, 8)?),
            body,
        };
        self.0 = self.0.get(aligned(len)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes: 2-byte length | 2-byte type | value, padded. Stops at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(u16::from_ne_bytes(fixed(self.0, 0)?));
        let kind = u16::from_ne_bytes(fixed(self.0, 2)?) & TYPE_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// `N` bytes at an offset, where they are there.
pub fn fixed<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A 4-byte attribute.
pub fn read_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(fixed(value, 0)?))
}

/// An attribute that holds an IPv6 address.
pub fn read_ipv6(value: &[u8]) -> Option<std::net::Ipv6Addr> {
    (value.len() == 16).then_some(())?;
    Some(std::net::Ipv6Addr::from(fixed::<16>(value, 0)?))
}

/// Marks a type as holding attributes.
pub const fn nested(kind: u16) -> u16 {
    kind | NESTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_of_two_messages_reads_back() {
        let mut batch = Batch::default();
        batch.begin(24, 1, 7, &[1, 2, 3]);
        batch.attribute(5, b"abcde");
        batch.begin(25, 2, 8, &[]);
        batch.attribute_u32(6, 99);
        batch.add_flags(4);

        let messages: Vec<_> = Messages(batch.bytes()).collect();

        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].message_type, messages[0].sequence), (24, 7));
        let attributes: Vec<_> = messages[0].attributes(3).collect();
        assert_eq!(attributes, [(5, &b"abcde"[..])]);
        assert_eq!((messages[1].flags, messages[1].sequence), (6, 8));
        let (kind, value) = messages[1].attributes(0).next().unwrap();
        assert_eq!((kind, read_u32(value)), (6, Some(99)));
    }

    #[test]
    fn truncated_buffers_end_the_walk_without_panic() {
        let mut batch = Batch::default();
        batch.begin(24, 1, 7, &[0; 12]);
        batch.attribute(5, &[9; 16]);
        for cut in 0..batch.bytes().len() {
            assert_eq!(Messages(&batch.bytes()[..cut]).count(), 0);
        }
        for length in [0u16, 1, 3, 5, 0xffff] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0]);
            assert!(Attributes(&bytes).count() <= 1);
        }
    }
}
