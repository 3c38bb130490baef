use proptest::prelude::*;
use serde_json::json;
use utxoiq_store_testkit::{
    Signer,
    identity::{shared_secret_token, unsigned},
};

use super::*;
use crate::auth::jwks::Keys;

fn noon() -> DateTime<Utc> {
    "2025-03-01T12:00:00Z".parse().unwrap()
}

fn expected() -> Expected {
    Expected {
        issuer: "https://issuer".into(),
        audiences: vec!["store".into(), "other".into()],
        skew: TimeDelta::seconds(60),
    }
}

/// What a good token says.
fn claims() -> Value {
    let now = noon().timestamp();
    json!({
        "iss": "https://issuer", "aud": "store", "sub": "user-1", "iat": now - 10, "auth_time": now - 20, "exp": now + 3_600,
    })
}

/// What becomes of a token.
fn judge(token: &str, keys: &Keys) -> Result<Claims, Refusal> {
    let claims = Jwt::read(token)?.verify(|jwt| keys.verify(jwt))?.claims()?;
    claims.check(&expected(), noon())?;
    Ok(claims)
}

fn keys(signers: &[&Signer]) -> Keys {
    let all: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    Keys::read(json!({ "keys": all }).to_string().as_bytes()).unwrap()
}

#[test]
fn a_signed_token_is_good_and_every_other_signature_is_not() {
    let (rsa, p256) = (Signer::rsa("r"), Signer::p256("e"));
    let keys = keys(&[&rsa, &p256]);
    for signer in [&rsa, &p256] {
        let token = signer.token(&claims());
        assert_eq!(judge(&token, &keys).unwrap().subject(), "user-1");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = signer.token(&json!({"sub": "user-2"}));
        let (other_signed, other_signature) = other.rsplit_once('.').unwrap();
        for wrong in [
            format!("{signed}.{other_signature}"),
            format!("{other_signed}.{signature}"),
            format!("{signed}."),
            format!("{signed}.AAAA"),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 256])),
        ] {
            assert_eq!(judge(&wrong, &keys), Err(Refusal::Signature));
        }
    }
    // A key of the same id that is another one.
    let stranger = Signer::p256("e").token(&claims());
    assert_eq!(judge(&stranger, &keys), Err(Refusal::Signature));
    let unknown = Signer::p256("x").token(&claims());
    assert_eq!(judge(&unknown, &keys), Err(Refusal::UnknownKey));
}

#[test]
fn the_algorithm_is_ours_and_its_key_is_one_for_it() {
    let (rsa, p256) = (Signer::rsa("r"), Signer::p256("e"));
    let keys = keys(&[&rsa, &p256]);
    for alg in [
        "none", "None", "NONE", "", "HS256", "RS512", "PS256", "ES384", "EdDSA", "rs256",
    ] {
        let head = json!({"alg": alg, "kid": "r"});
        let signed = rsa.token_with(&head, &claims());
        assert_eq!(judge(&signed, &keys), Err(Refusal::Algorithm), "{alg}");
        let without = format!("{}.", unsigned(&head, &claims()));
        assert_eq!(judge(&without, &keys), Err(Refusal::Algorithm), "{alg}");
    }
    for secret in [rsa.public_bytes(), rsa.jwk().to_string().into_bytes()] {
        let forged = shared_secret_token(&secret, "r", &claims());
        assert_eq!(judge(&forged, &keys), Err(Refusal::Algorithm));
    }
    // Each key under the other's name of an algorithm.
    for (signer, alg) in [(&rsa, "ES256"), (&p256, "RS256")] {
        let head = json!({"alg": alg, "kid": signer.key_id});
        let crossed = signer.token_with(&head, &claims());
        assert_eq!(judge(&crossed, &keys), Err(Refusal::Algorithm));
    }
}

#[test]
fn a_head_is_understood_whole_and_brings_no_keys_along() {
    let (known, own) = (Signer::p256("e"), Signer::p256("e"));
    let keys = keys(&[&known]);
    let judged = |head: Value| judge(&known.token_with(&head, &claims()), &keys).err();
    let with = |name: &str, value: Value| {
        let mut head = json!({"alg": "ES256", "kid": "e"});
        head[name] = value;
        head
    };
    for crit in [json!(["exp"]), json!([]), json!(null), json!("x")] {
        assert_eq!(judged(with("crit", crit)), Some(Refusal::Critical));
    }
    for (typ, refusal) in [
        ("JWT", None),
        ("at+jwt", None),
        ("application/at+jwt", None),
        ("logout+jwt", Some(Refusal::Type)),
        ("secevent+jwt", Some(Refusal::Type)),
        ("", Some(Refusal::Type)),
    ] {
        assert_eq!(judged(with("typ", json!(typ))), refusal, "{typ}");
    }
    assert_eq!(judged(json!({"alg": "ES256"})), Some(Refusal::NoKeyId));
    for (kid, refusal) in [
        (json!(""), Refusal::NoKeyId),
        (json!(null), Refusal::NoKeyId),
        (json!("x".repeat(201)), Refusal::NoKeyId),
        (json!(1), Refusal::Malformed),
        (json!(["e"]), Refusal::Malformed),
    ] {
        assert_eq!(judged(with("kid", kid)), Some(refusal));
    }
    for typ in [json!(null), json!(1)] {
        assert_eq!(judged(with("typ", typ)), Some(Refusal::Malformed));
    }
    for name in ["jwk", "jku", "x5u", "x5c"] {
        let forged = own.token_with(&with(name, own.jwk()), &claims());
        assert_eq!(judge(&forged, &keys), Err(Refusal::Signature), "{name}");
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"e","kid":"f"}"#);
    let token = known.token(&claims());
    let rest = token.split_once('.').unwrap().1;
    assert_eq!(
        judge(&format!("{twice}.{rest}"), &keys),
        Err(Refusal::Malformed)
    );
}

#[test]
fn a_token_has_three_parts_and_one_spelling_and_is_not_long() {
    let signer = Signer::p256("e");
    let keys = keys(&[&signer]);
    let token = signer.token(&claims());
    let long = signer.token(&json!({"x": "y".repeat(MAX_LENGTH)}));
    for wrong in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        &format!("{token}="),
        &format!("{token}."),
        &format!(".{token}"),
        &format!(" {token}"),
        &token.replacen("eyJ", "eyJ=", 1),
        &token.replacen("eyJ", "ey\u{e9}", 1),
        &long,
    ] {
        assert!(judge(wrong, &keys).is_err(), "{wrong:.40}");
        assert!(
            !has_form(wrong) || wrong.len() < 10 || !wrong.starts_with("eyJ"),
            "{wrong:.40}"
        );
    }
    assert!(has_form(&token));
    assert_eq!(judge(&long, &keys), Err(Refusal::Malformed));
}

/// What becomes of a token with one claim changed; without it where there is no value.
fn with(name: &str, value: Option<Value>) -> Option<Refusal> {
    let signer = Signer::p256("e");
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    judge(&signer.token(&claims), &keys(&[&signer])).err()
}

#[test]
fn a_token_is_from_our_issuer_and_for_us() {
    for iss in ["https://issuer/", "https://ISSUER", "", "https://issuer2"] {
        assert_eq!(
            with("iss", Some(json!(iss))),
            Some(Refusal::Issuer),
            "{iss}"
        );
    }
    for (aud, refusal) in [
        (json!("other"), None),
        (json!(["x", "store"]), None),
        (json!(["x", "y"]), Some(Refusal::Audience)),
        (json!([]), Some(Refusal::Audience)),
        (json!("stores"), Some(Refusal::Audience)),
        (json!("Store"), Some(Refusal::Audience)),
        (json!(["store", 1]), Some(Refusal::Claims)),
        (json!({"store": 1}), Some(Refusal::Claims)),
    ] {
        assert_eq!(with("aud", Some(aud.clone())), refusal, "{aud}");
    }
    for name in ["iss", "aud", "exp", "sub"] {
        assert_eq!(with(name, None), Some(Refusal::Claims), "{name}");
        assert_eq!(
            with(name, Some(json!(null))),
            Some(Refusal::Claims),
            "{name}"
        );
    }
}

#[test]
fn times_hold_within_the_skew_and_are_times() {
    let now = noon().timestamp();
    for (seconds, refusal) in [
        (-61, Some(Refusal::Expired)),
        (-60, Some(Refusal::Expired)),
        (-59, None),
        (0, None),
    ] {
        assert_eq!(
            with("exp", Some(json!(now + seconds))),
            refusal,
            "exp {seconds}"
        );
    }
    for name in ["nbf", "iat", "auth_time"] {
        assert_eq!(with(name, None), None);
        for (seconds, refusal) in [(60, None), (61, Some(Refusal::NotYet)), (-9_999, None)] {
            assert_eq!(
                with(name, Some(json!(now + seconds))),
                refusal,
                "{name} {seconds}"
            );
        }
    }
    for name in ["exp", "nbf", "iat", "auth_time"] {
        assert_eq!(with(name, Some(json!(now as f64 - 0.5))), None, "{name}");
        for wrong in [
            json!("1800000000"),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!([now]),
            json!(true),
            json!(null),
        ] {
            assert_eq!(
                with(name, Some(wrong.clone())),
                Some(Refusal::Claims),
                "{name} {wrong}"
            );
        }
    }
}

#[test]
fn a_subject_is_a_users_id() {
    for good in ["a", &"ä".repeat(100), "auth0|5f7c", "user 1"] {
        assert_eq!(with("sub", Some(json!(good))), None, "{good}");
    }
    for bad in ["", " ", "a\nb", "a\0", "\u{85}", &"ä".repeat(101)] {
        assert_eq!(
            with("sub", Some(json!(bad))),
            Some(Refusal::Subject),
            "{bad}"
        );
    }
    assert_eq!(with("sub", Some(json!(7))), Some(Refusal::Claims));
}

#[test]
fn a_claim_is_found_by_its_whole_name_and_then_by_its_steps() {
    let mut said = claims();
    said["role"] = json!("one");
    said["realm"] = json!({"roles": ["a", 1, "b"], "x": {"y": "z"}});
    said["https://example.com/roles"] = json!(["whole"]);
    said["realm.x"] = json!("not nested");
    let claims: Claims = serde_json::from_value(said).unwrap();
    for (name, texts) in [
        ("role", vec!["one"]),
        ("realm.roles", vec!["a", "b"]),
        ("realm.x.y", vec!["z"]),
        ("realm.x", vec!["not nested"]),
        ("https://example.com/roles", vec!["whole"]),
        ("realm", vec![]),
        ("none.at.all", vec![]),
        ("role.x", vec![]),
        ("", vec![]),
        ("sub", vec![]),
    ] {
        assert_eq!(claims.texts(name), texts, "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_untrusted(&bytes);
    }

    #[test]
    fn no_head_or_claims_break_the_reader(head in ".{0,80}", claims in ".{0,80}", number in any::<f64>()) {
        let head = URL_SAFE_NO_PAD.encode(head);
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let _ = read_untrusted(format!("{head}.{claims}.AA").as_bytes());
        let times = json!({"iss": "", "aud": "", "sub": "", "exp": number, "nbf": number});
        if let Ok(claims) = serde_json::from_value::<Claims>(times) {
            let _ = claims.check(&expected(), noon());
        }
    }
}
