//! How records are laid out and read.

/// A value of fixed width in the machine's byte order.
pub trait Field: Sized {
    /// Bytes.
    const SIZE: usize;
    /// From exactly [`Field::SIZE`] bytes; what is missing reads as zero.
    fn read(bytes: &[u8]) -> Self;
}

/// A record (or the fixed part of one) that can be read from bytes.
pub trait Decode: Field {
    /// `None` if there are fewer than [`Field::SIZE`] bytes; what follows them is not looked at.
    #[inline]
    fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::SIZE).then(|| Self::read(bytes))
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl Field for $integer {
            const SIZE: usize = size_of::<$integer>();
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or(0, |chunk| <$integer>::from_ne_bytes(*chunk))
            }
        }
    )+};
}
integers!(u8, u16, u32, u64);

impl<T: Field, const N: usize> Field for [T; N] {
    const SIZE: usize = N * T::SIZE;
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        core::array::from_fn(|i| T::read(bytes.get(i * T::SIZE..).unwrap_or_default()))
    }
}

/// Defines a record and how it is read, and asserts that it has no implicit padding.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $ty:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)+ }

        const _: () = assert!(
            size_of::<$name>() == 0 $(+ <$ty as $crate::Field>::SIZE)+,
            concat!(stringify!($name), " has implicit padding"),
        );

        impl $crate::Field for $name {
            const SIZE: usize = size_of::<$name>();
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self { $($field: $crate::Field::read(bytes.get(core::mem::offset_of!($name, $field)..).unwrap_or_default()),)+ }
            }
        }

        impl $crate::Decode for $name {}
    };
}
pub(crate) use record;
