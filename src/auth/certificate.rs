//! The fields of a certificate (RFC 5280, section 4.1).

use spki::der::asn1::AnyRef;
use spki::der::{self, Decode, Reader, SliceReader};

/// The places of fields that are read, behind the version. Version 1 leaves the version out.
pub(crate) const VALIDITY: usize = 3;
pub(crate) const PUBLIC_KEY: usize = 5;

/// Reads one field of a certificate in DER. Its signature is not checked, and the fields behind it are ignored.
pub(crate) fn field<'a, T>(
    certificate: &'a [u8],
    place: usize,
    read: impl FnOnce(&mut SliceReader<'a>) -> der::Result<T>,
) -> der::Result<T> {
    AnyRef::from_der(certificate)?.sequence(|parts| {
        let signed = AnyRef::decode(parts)?;
        // Skips the signature's algorithm and the signature.
        AnyRef::decode(parts)?;
        AnyRef::decode(parts)?;
        signed.sequence(|fields| {
            if fields.peek_tag()?.is_context_specific() {
                AnyRef::decode(fields)?;
            }
            for _ in 0..place {
                AnyRef::decode(fields)?;
            }
            let value = read(fields)?;
            while !fields.is_finished() {
                AnyRef::decode(fields)?;
            }
            Ok(value)
        })
    })
}
