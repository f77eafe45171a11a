//! Make a CA, make a leaf, say whether one is due: functions of their inputs and the clock that they are given.

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

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
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()) else { return true };
    let Ok(parsed) = pem.parse_x509() else { return true };
    let validity = parsed.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    now.timestamp() >= from + (to - from) / 3 * 2
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
}
