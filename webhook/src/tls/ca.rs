//! Make a CA, make a leaf, say whether one is due or unsound: functions of their inputs and the clock that they are given.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;

/// How long a CA is good for.
const CA_LIFE: TimeDelta = TimeDelta::days(3_650);
/// How long a leaf is good for.
const LEAF_LIFE: TimeDelta = TimeDelta::days(90);
/// How far before its making a certificate is good, for clocks that are behind.
const BACKDATED: TimeDelta = TimeDelta::hours(1);

/// A certificate and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Makes a CA. P-256, as the leaf: a handshake with RSA costs the server several times as much.
///
/// # Errors
/// Where the random source fails.
pub fn make_ca(now: DateTime<Utc>) -> Result<Pair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "breakglass webhook CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_LIFE)?;
    let key = KeyPair::generate().context("making the CA's key")?;
    let issuer = CertifiedIssuer::self_signed(params, key).context("making the CA")?;
    Ok(Pair { certificate: issuer.pem(), key: issuer.key().serialize_pem() })
}

/// Makes a leaf for one server name.
///
/// # Errors
/// Where the CA cannot be read.
pub fn make_leaf(ca: &Pair, server_name: &str, now: DateTime<Utc>) -> Result<Pair> {
    let ca_key = KeyPair::from_pem(&ca.key).context("reading the CA's key")?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).context("reading the CA")?;
    let mut params = CertificateParams::new(vec![server_name.to_owned()]).context("naming the leaf")?;
    params.distinguished_name.push(DnType::CommonName, server_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, LEAF_LIFE)?;
    let key = KeyPair::generate().context("making the leaf's key")?;
    let certificate = params.signed_by(&key, &issuer).context("signing the leaf")?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn valid(params: &mut CertificateParams, now: DateTime<Utc>, life: TimeDelta) -> Result<()> {
    let date = |at: DateTime<Utc>| time::OffsetDateTime::from_unix_timestamp(at.timestamp());
    params.not_before = date(now - BACKDATED).context("dating the certificate")?;
    params.not_after = date(now + life).context("dating the certificate")?;
    Ok(())
}

/// Whether a certificate has lived two thirds of its life, or cannot be read.
pub fn is_due(certificate: &str, now: DateTime<Utc>) -> bool {
    let Ok((from, to)) = life(certificate) else { return true };
    now >= from + (to - from) / 3 * 2
}

/// When a certificate ends; `None` where it cannot be read.
pub fn end(certificate: &str) -> Option<DateTime<Utc>> {
    life(certificate).ok().map(|(_, to)| to)
}

fn life(certificate: &str) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    parsed(certificate, |certificate| {
        let validity = certificate.validity();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).context("reading its dates");
        Ok((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
    })
}

fn parsed<T>(certificate: &str, look: impl FnOnce(&X509Certificate<'_>) -> Result<T>) -> Result<T> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).context("reading the PEM")?;
    look(&pem.parse_x509().context("reading the certificate")?)
}

/// Whether leaves can be signed with this CA at `now`.
///
/// # Errors
/// What is wrong with it.
pub fn check_ca(ca: &Pair, now: DateTime<Utc>) -> Result<()> {
    let key = KeyPair::from_pem(&ca.key).context("the CA's key cannot be read")?;
    parsed(&ca.certificate, |certificate| {
        ensure!(certificate.is_ca(), "the CA is none");
        ensure!(
            certificate.public_key().raw == key.subject_public_key_info(),
            "the CA's key belongs to another certificate"
        );
        Ok(())
    })
    .context("the CA is unsound")?;
    let (from, to) = life(&ca.certificate)?;
    ensure!(now >= from, "the CA is not good before {from}");
    ensure!(now < to, "the CA ended at {to}");
    Ok(())
}

/// Whether an API server that trusts `ca` would believe this leaf at `now` when it calls `server_name`: the same question that
/// it asks itself.
///
/// # Errors
/// What is wrong with it.
pub fn check_leaf(leaf: &Pair, ca: &str, server_name: &str, now: DateTime<Utc>) -> Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut chain = super::certified(leaf, &provider)?.cert.into_iter();
    let own = chain.next().context("there is no certificate")?;
    let between: Vec<CertificateDer<'_>> = chain.collect();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).context("the CA cannot be read")?)
        .context("trusting the CA")?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().context("trusting the CA")?;
    let name = ServerName::try_from(server_name).context("reading our own name")?;
    let seconds = u64::try_from(now.timestamp()).context("it is before 1970")?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_server_cert(&own, &between, &name, &[], at).context("the leaf is not believed")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_due_after_two_thirds_of_its_life() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let ca = make_ca(now).unwrap();
        let leaf = make_leaf(&ca, "breakglass-webhook.breakglass-system.svc", now).unwrap();
        for (days, due) in [(0, false), (59, false), (61, true), (91, true)] {
            assert_eq!(is_due(&leaf.certificate, now + TimeDelta::days(days)), due, "after {days} days");
        }
        assert!(!is_due(&ca.certificate, now + TimeDelta::days(365)));
        assert!(is_due("no certificate", now));
    }

    const NAME: &str = "breakglass-webhook.breakglass-system.svc";

    /// T-07: a leaf of another name, another CA, another key or another time is told apart from one that is believed.
    #[test]
    fn only_what_the_api_server_would_believe_is_sound() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let (ca, other) = (make_ca(now).unwrap(), make_ca(now).unwrap());
        let leaf = make_leaf(&ca, NAME, now).unwrap();
        let check = |leaf: &Pair, ca: &Pair, days: i64| {
            check_leaf(leaf, &ca.certificate, NAME, now + TimeDelta::days(days)).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check(&leaf, &ca, 0), Ok(()));
        let named = |name: &str| make_leaf(&ca, name, now).unwrap();
        let stranger = Pair { key: make_leaf(&ca, NAME, now).unwrap().key, ..leaf.clone() };
        for (leaf, ca, days, expected) in [
            (&named("breakglass-webhook.default.svc"), &ca, 0, "not valid for name"),
            (&named("127.0.0.1"), &ca, 0, "not valid for name"),
            (&leaf, &other, 0, "the leaf is not believed"),
            (&leaf, &ca, 91, "expired"),
            (&leaf, &ca, -2, "not valid yet"),
            (&stranger, &ca, 0, "matching the certificate with its key"),
            (&Pair { certificate: "no PEM".to_owned(), ..leaf.clone() }, &ca, 0, "the certificate"),
        ] {
            let said = check(leaf, ca, days).unwrap_err();
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }

    /// T-07: leaves of the kinds that other tools make are taken as they come.
    #[test]
    fn a_leaf_of_another_curve_is_as_good() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let ca = make_ca(now).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key).unwrap()).unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        valid(&mut params, now, LEAF_LIFE).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let leaf = Pair { certificate, key: key.serialize_pem() };
        check_leaf(&leaf, &ca.certificate, NAME, now).unwrap();
    }

    #[test]
    fn a_ca_without_its_own_key_or_past_its_end_signs_nothing() {
        let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        let (ca, other) = (make_ca(now).unwrap(), make_ca(now).unwrap());
        check_ca(&ca, now).unwrap();
        assert!(check_ca(&ca, now + CA_LIFE).is_err());
        assert!(check_ca(&Pair { key: other.key, ..ca.clone() }, now).is_err());
        assert!(check_ca(&make_leaf(&ca, NAME, now).unwrap(), now).is_err());
    }
}
