//! Maps read and written many entries at a time, which aya has no calls for.
//!
//! Knows keys and values as bytes of fixed sizes; must not know what they mean.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::Pod;
use aya::maps::MapData;

/// Commands of bpf(2) (linux/bpf.h).
const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;
pub(super) const OBJECT_INFO: libc::c_int = 15;

/// Of a map that has no such command: in the kernel only, not in libc.
const ENOTSUPP: i32 = 524;

/// `union bpf_attr` for one element.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for many.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A map with keys `K` and `per_key` values `V` for each: one, or one for each CPU.
pub(super) struct RawMap<K, V> {
    fd: OwnedFd,
    per_key: usize,
    of: PhantomData<(K, V)>,
}

/// Where a walk over a map stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    /// As the kernel has it: a bucket or a key.
    at: [u64; 4],
    is_begun: bool,
}

impl<K: Pod, V: Pod> RawMap<K, V> {
    /// # Errors
    /// The map has keys or values of other sizes, or no descriptor is left.
    pub(super) fn new(map: &MapData) -> anyhow::Result<Self> {
        use aya::maps::MapType::{PerCpuArray, PerCpuHash};
        let info = map.info()?;
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        anyhow::ensure!(
            sizes == (size_of::<K>(), size_of::<V>()) && size_of::<K>() <= size_of::<Place>(),
            "a kernel map has keys and values of {sizes:?} bytes"
        );
        let is_per_cpu = matches!(info.map_type()?, PerCpuArray | PerCpuHash);
        // The kernel pads each CPU's value to eight bytes.
        anyhow::ensure!(!is_per_cpu || size_of::<V>().is_multiple_of(8));
        let per_key = match is_per_cpu {
            true => {
                aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?
            }
            false => 1,
        };
        Ok(Self {
            fd: map.fd().as_fd().try_clone_to_owned()?,
            per_key,
            of: PhantomData,
        })
    }

    /// The same map, for another thread.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            per_key: self.per_key,
            of: PhantomData,
        })
    }

    /// The map itself.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many values a key has.
    pub(super) const fn per_key(&self) -> usize {
        self.per_key
    }

    /// Appends the values of a key. False: there is no such key.
    pub(super) fn get(&self, key: &K, values: &mut Vec<V>) -> io::Result<bool> {
        values.reserve(self.per_key);
        let room = values.spare_capacity_mut().as_mut_ptr();
        // SAFETY: the kernel reads a key and writes `per_key` values, for which there is room.
        let found = unsafe { self.element(LOOKUP, key, room.cast(), 0) };
        match found {
            Ok(()) => {
                let len = values.len() + self.per_key;
                // SAFETY: the kernel has written them; any bytes are a `Pod`.
                unsafe { values.set_len(len) };
                Ok(true)
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces the values of a key, or adds it.
    pub(super) fn put(&self, key: &K, values: &[V]) -> io::Result<()> {
        assert_eq!(values.len(), self.per_key);
        // SAFETY: the kernel reads a key and as many values as there are.
        unsafe { self.element(UPDATE, key, values.as_ptr().cast(), 0) }
    }

    /// False: there was no such key.
    pub(super) fn remove(&self, key: &K) -> io::Result<bool> {
        // SAFETY: the kernel reads a key.
        match unsafe { self.element(DELETE, key, std::ptr::null(), 0) } {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts many. What cannot be put is told by its place, and the others are put all the same.
    pub(super) fn put_many(
        &self,
        keys: &[K],
        values: &[V],
        mut failed: impl FnMut(usize, io::Error),
    ) {
        assert_eq!(values.len(), keys.len() * self.per_key);
        let values_of = |at: usize| &values[at * self.per_key..];
        let mut done = 0;
        while done < keys.len() {
            if keys.len() - done > 1 {
                let (count, error) = self.put_batch(&keys[done..], values_of(done));
                done += count;
                if error.is_none() {
                    continue;
                }
            }
            // The one that stopped it, or a kernel without batches: by itself.
            let one = &values_of(done)[..self.per_key];
            if let Err(error) = self.put(&keys[done], one) {
                failed(done, error);
            }
            done += 1;
        }
    }

    /// How many were put, and why not all.
    fn put_batch(&self, keys: &[K], values: &[V]) -> (usize, Option<io::Error>) {
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count,
            map_fd: self.fd.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: the kernel reads `count` keys and their values, and writes the count.
        let result = unsafe { bpf(UPDATE_BATCH, &raw mut attr) };
        match result {
            Ok(()) => (attr.count as usize, None),
            Err(error) => {
                // Where it never began, it leaves the count alone.
                let never_began = matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP));
                let done = match never_began || attr.count >= count {
                    true => 0,
                    false => attr.count as usize,
                };
                (done, Some(error))
            }
        }
    }

    /// Appends the next entries, about `many` of them. False: those were the last. An entry that moves meanwhile
    /// may be missed or come twice.
    pub(super) fn walk(
        &self,
        place: &mut Place,
        many: usize,
        keys: &mut Vec<K>,
        values: &mut Vec<V>,
    ) -> io::Result<bool> {
        let mut many = many;
        loop {
            keys.reserve(many);
            values.reserve(many * self.per_key);
            let mut next = Place {
                is_begun: true,
                ..*place
            };
            let mut attr = BatchAttr {
                in_batch: match place.is_begun {
                    true => place.at.as_ptr() as u64,
                    false => 0,
                },
                out_batch: next.at.as_mut_ptr() as u64,
                keys: keys.spare_capacity_mut().as_mut_ptr() as u64,
                values: values.spare_capacity_mut().as_mut_ptr() as u64,
                count: u32::try_from(many).unwrap_or(u32::MAX),
                map_fd: self.fd.as_raw_fd() as u32,
                ..BatchAttr::default()
            };
            // SAFETY: there is room for `count` keys and their values, and for a place as large as any key.
            let result = unsafe { bpf(LOOKUP_BATCH, &raw mut attr) };
            let errno = result.err().map(|error| error.raw_os_error().unwrap_or(0));
            match errno {
                // A bucket holds more than there was room for.
                Some(libc::ENOSPC) => {
                    many *= 2;
                    continue;
                }
                None | Some(libc::ENOENT) => {
                    let (count, per_key) = (attr.count as usize, self.per_key);
                    assert!(count <= many, "the kernel keeps to the count");
                    let lens = (keys.len() + count, values.len() + count * per_key);
                    // SAFETY: the kernel has written so many; any bytes are a `Pod`.
                    unsafe {
                        keys.set_len(lens.0);
                        values.set_len(lens.1);
                    }
                    *place = next;
                    return Ok(errno.is_none());
                }
                Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// # Safety
    /// `value` has what `command` reads or room for what it writes.
    unsafe fn element(
        &self,
        command: libc::c_int,
        key: &K,
        value: *const MaybeUninit<V>,
        flags: u64,
    ) -> io::Result<()> {
        let mut attr = ElementAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            key: std::ptr::from_ref(key) as u64,
            value: value as u64,
            flags,
            ..ElementAttr::default()
        };
        // SAFETY: the caller's; the key is one of this map.
        unsafe { bpf(command, &raw mut attr) }
    }
}

/// # Safety
/// What `attr` points at is what `command` expects.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attr: *mut T) -> io::Result<()> {
    // SAFETY: the kernel reads no more than the size that it is told.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
