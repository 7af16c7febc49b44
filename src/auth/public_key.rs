//! Public keys in PEM (RFC 7468): as SubjectPublicKeyInfo, as RSA keys of PKCS #1, or in a certificate.
//!
//! Only the key of a certificate is used; its issuer and its dates are ignored. The operator vouches for the
//! certificate as for any other key.

use super::certificate::{self, PUBLIC_KEY};
use jsonwebtoken::{Algorithm, DecodingKey};
use spki::der::asn1::{AnyRef, UintRef};
use spki::der::Decode;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

/// RFC 3279, section 2.3.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480, section 2.1.1, and its parameter for the curve P-256.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 8410, section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The keys in a text, each with the one algorithm that its kind allows. Only the first certificate of a chain is used:
/// the others belong to its issuers, who sign no tokens. `None`: the text has anything else, for example a private key.
pub(super) fn read(text: &[u8]) -> Option<Vec<(Algorithm, DecodingKey)>> {
    let mut keys = Vec::new();
    let mut in_chain = false;
    for pem in pem::parse_many(text).ok()? {
        keys.push(match pem.tag() {
            "PUBLIC KEY" => key(&SubjectPublicKeyInfoRef::from_der(pem.contents()).ok()?)?,
            "RSA PUBLIC KEY" => rsa(pem.contents())?,
            "CERTIFICATE" if in_chain => continue,
            "CERTIFICATE" => {
                in_chain = true;
                key(&certificate::field(pem.contents(), PUBLIC_KEY, SubjectPublicKeyInfoRef::decode).ok()?)?
            }
            _ => return None,
        });
    }
    (!keys.is_empty()).then_some(keys)
}

fn key(info: &SubjectPublicKeyInfoRef<'_>) -> Option<(Algorithm, DecodingKey)> {
    let bytes = info.subject_public_key.as_bytes()?;
    match info.algorithm.oid {
        RSA => rsa(bytes),
        EC if info.algorithm.parameters_oid() == Ok(P256) => Some((Algorithm::ES256, DecodingKey::from_ec_der(bytes))),
        ED25519 => Some((Algorithm::EdDSA, DecodingKey::from_ed_der(bytes))),
        _ => None,
    }
}

fn rsa(der: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    rsa_parts(der).map(|_| (Algorithm::RS256, DecodingKey::from_rsa_der(der)))
}

/// Modulus and exponent (RFC 8017, appendix A.1.1).
pub(super) fn rsa_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let parts = AnyRef::from_der(der).and_then(|key| {
        key.sequence(|parts| {
            let (n, e) = (UintRef::decode(parts)?, UintRef::decode(parts)?);
            Ok((n.as_bytes(), e.as_bytes()))
        })
    });
    parts.ok()
}
