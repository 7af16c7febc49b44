//! The keys that tokens are verified with, in the forms that they come in.

use super::*;

#[test]
fn a_key_may_come_in_other_forms_and_in_a_certificate() {
    let same = |one: &str, other: &str| {
        let (one, other) = (public_key(one.as_bytes()).unwrap(), public_key(other.as_bytes()).unwrap());
        assert_eq!((one.algorithm, one.key.as_bytes()), (other.algorithm, other.key.as_bytes()));
    };
    same(RSA, include_str!("../../tests/keys/rsa.pkcs1.pem"));
    same(RSA, include_str!("../../tests/keys/rsa.certificate.pem"));
    same(EC, include_str!("../../tests/keys/ec.certificate.pem"));
    same(ED, include_str!("../../tests/keys/ed.certificate.pem"));
    // With the line ends of another system, and with the text that some tools write before the key.
    same(RSA, &format!("key of somebody\n{}", RSA.replace('\n', "\r\n")));
}

#[test]
fn all_keys_of_a_text_are_used_but_only_the_first_certificate_of_a_chain() {
    let chain =
        [include_str!("../../tests/keys/ec.certificate.pem"), include_str!("../../tests/keys/rsa.certificate.pem")];
    for (text, expected) in [
        (format!("{RSA}{ED}"), vec![Algorithm::RS256, Algorithm::EdDSA]),
        (chain.concat(), vec![Algorithm::ES256]),
        (format!("{}{ED}", chain.concat()), vec![Algorithm::ES256, Algorithm::EdDSA]),
    ] {
        let verifier = verifier(&[("jwt_keys", &text)]).unwrap();
        for algorithm in ALGORITHMS {
            let is_good = verifier.verify(&signed(algorithm, None)).is_ok();
            assert_eq!(is_good, expected.contains(&algorithm), "{algorithm:?} {text}");
        }
    }
    let request = ED.replace("PUBLIC KEY", "CERTIFICATE REQUEST");
    assert!(verifier(&[("jwt_keys", &format!("{RSA}{request}"))]).is_err(), "anything else is refused");
}

#[test]
fn a_truncated_or_corrupt_key_is_refused() {
    let whole =
        [RSA, include_str!("../../tests/keys/rsa.pkcs1.pem"), include_str!("../../tests/keys/ec.certificate.pem")];
    for text in whole {
        let whole = pem::parse(text).unwrap();
        for end in 0..whole.contents().len() {
            let cut = pem::encode(&pem::Pem::new(whole.tag(), &whole.contents()[..end]));
            assert!(public_key(cut.as_bytes()).is_none(), "{} cut at {end}", whole.tag());
        }
    }
    assert!(public_key(pem::encode(&pem::Pem::new("RSA PUBLIC KEY", [1; 300])).as_bytes()).is_none());
}

/// An RSA key of PKCS #1 with this modulus. The first bit of the modulus must be set.
fn rsa_pem(modulus: &[u8]) -> String {
    // SEQUENCE { INTEGER, INTEGER 65537 }, with lengths of two bytes.
    let integer = [&[2, 0x82], &(modulus.len() as u16 + 1).to_be_bytes()[..], &[0], modulus].concat();
    let both = [&integer[..], &[2, 3, 1, 0, 1]].concat();
    let der = [&[0x30, 0x82], &(both.len() as u16).to_be_bytes()[..], &both].concat();
    pem::encode(&pem::Pem::new("RSA PUBLIC KEY", der))
}

#[test]
fn weak_private_and_foreign_keys_are_refused_at_the_start() {
    let long = rsa_pem(&[0xff; 1024]);
    let cases = [
        ("1024 bits", include_str!("../../tests/keys/rsa-1024.pem")),
        ("8192 bits", long.as_str()),
        ("P-384", include_str!("../../tests/keys/ec-p384.pem")),
        ("a private key", include_str!("../../tests/keys/ed.private.pem")),
        ("a private RSA key", include_str!("../../tests/keys/rsa.private.pem")),
        ("nothing", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"),
    ];
    assert!(verifier(&[("jwt_keys", &rsa_pem(&[0xff; 512]))]).is_ok(), "4096 bits");
    for (what, pem) in cases {
        let error = verifier(&[("jwt_keys", pem)]).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{what}");
        assert!(!error.to_string().contains("BEGIN"), "{what}: a key must not be repeated");
    }
}

#[test]
fn missing_and_unreadable_keys_are_refused_at_the_start() {
    assert_eq!(verifier(&[]).unwrap_err().kind(), Kind::Config);
    assert_eq!(verifier(&[("jwt_keys", "/nowhere.pem")]).unwrap_err().kind(), Kind::System);
    assert!(Builder::default().set("jwt_secret", "short").is_err());
}
