//! How a message is declared, and the table of its layout that the contract
//! check reads.

/// One field of a message, as the compiler laid it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLayout {
    /// The field's name.
    pub name: &'static str,
    /// The field's type, as it is written in the declaration.
    pub ty: &'static str,
    /// Bytes from the start of the message.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// The layout of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The message's type name.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// The fields, in order, without gaps between them.
    pub fields: &'static [FieldLayout],
}

/// The integers of one enum and what they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnumLayout {
    /// The enum's type name.
    pub name: &'static str,
    /// Each value with its name.
    pub values: &'static [(&'static str, u32)],
}

/// A type that crosses the boundary of kernel and user mode.
pub trait Message: Sized {
    /// Where each of its fields is.
    const LAYOUT: Layout;
}

/// Declares a message: a `#[repr(C)]` zerocopy struct whose size and offsets
/// are written down beside its fields and checked when it is compiled.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident [$size:literal] {
            $( $(#[$field_meta:meta])* $offset:literal => $field:ident: $ty:ty, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )+
        }

        impl $crate::layout::Message for $name {
            const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                align: align_of::<$name>(),
                fields: &[ $( $crate::layout::FieldLayout {
                    name: stringify!($field),
                    ty: stringify!($ty),
                    offset: core::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                }, )+ ],
            };
        }

        const _: () = {
            assert!(size_of::<$name>() == $size, "size of a message");
            $( assert!(core::mem::offset_of!($name, $field) == $offset, "offset of a field"); )+
        };
    };
}

/// Declares an enum whose values are integers on the wire.
macro_rules! wire_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $value:literal $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $value, )+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[ $( $name::$variant, )+ ];
            /// The values as the contract check sees them.
            pub const LAYOUT: $crate::layout::EnumLayout = $crate::layout::EnumLayout {
                name: stringify!($name),
                values: &[ $( (stringify!($variant), $value), )+ ],
            };

            /// The value's name in output and JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $text, )+ }
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> u32 {
                match value { $( $name::$variant => $value, )+ }
            }
        }

        impl TryFrom<u32> for $name {
            type Error = $crate::meaning::UnknownValue;

            fn try_from(value: u32) -> Result<Self, Self::Error> {
                match value {
                    $( $value => Ok($name::$variant), )+
                    value => Err($crate::meaning::UnknownValue { of: stringify!($name), value }),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
