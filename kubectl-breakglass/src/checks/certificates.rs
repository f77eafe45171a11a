//! Whether the API server can believe the webhook: the CA that the configurations name, the leaf that it shows, and how long
//! both last.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Finding, HOME, Level, NAME};

const CHECK: &str = "certificates";

/// The Secret with the CA and the leaf.
pub const SECRET: &str = "breakglass-webhook-tls";

/// By when a certificate has been renewed: with a third of its life left. What is later than that by a day, or by a twelfth
/// of a short life, was missed.
const LATE: TimeDelta = TimeDelta::days(1);

/// What is known of the certificates.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The Secret's fields, where it may be read; `Some(None)` where it is not there.
    pub secret: Option<Option<BTreeMap<String, Vec<u8>>>>,
    /// The bundle of each webhook of both configurations, by the webhook's name.
    pub bundles: Vec<(String, Vec<u8>)>,
    /// Whether cert-manager makes the certificates, and writes the bundles.
    pub by_cert_manager: bool,
}

/// What is found at `now`, by the API server's clock.
pub fn certificates(known: &Certificates, now: DateTime<Utc>) -> Vec<Finding> {
    let secret = match &known.secret {
        None => {
            let message =
                format!("the Secret {SECRET} may not be read by you: only what the API server trusts is looked at");
            let mut findings = vec![Finding::new(Level::Note, CHECK, message)];
            findings.extend(ended(&known.bundles, now, known.by_cert_manager));
            return findings;
        }
        Some(None) => {
            let message = format!("there is no Secret {SECRET}: the webhook makes one when it starts");
            let hint = format!("kubectl -n {HOME} rollout restart deployment {NAME}");
            return vec![problem(message, hint)];
        }
        Some(Some(secret)) => secret,
    };
    let mut findings = match shown(secret, now, known.by_cert_manager) {
        Ok(findings) => findings,
        Err(finding) => return vec![*finding],
    };
    findings.extend(bundles(known, secret, now));
    if !findings.iter().any(|finding| finding.level == Level::Problem) {
        let end = secret.get("tls.crt").and_then(|pem| end(pem)).map(|end| format!("{}", end.format("%Y-%m-%d")));
        let message = format!(
            "the API server trusts the certificate that the webhook shows, which lasts until {}",
            end.unwrap_or_default()
        );
        findings.push(Finding::new(Level::Ok, CHECK, message));
    }
    findings
}

fn problem(message: String, hint: String) -> Finding {
    let rotates = hint.contains("breakglass.dev/rotate");
    let finding = Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("secret/{SECRET}"));
    if !rotates {
        return finding;
    }
    // A replica that starts and finds none makes a new one; nothing else is in this Secret.
    finding.hint(format!("if no replica runs: kubectl -n {HOME} delete secret {SECRET}"))
}

/// The command that has a certificate made anew.
fn rotate(which: &str, by_cert_manager: bool) -> String {
    if by_cert_manager {
        return format!("kubectl -n {HOME} get certificates,certificaterequests");
    }
    format!("kubectl -n {HOME} annotate --overwrite secret {SECRET} breakglass.dev/rotate={which}")
}

/// Whether CA, leaf and key belong together.
fn shown(
    secret: &BTreeMap<String, Vec<u8>>,
    now: DateTime<Utc>,
    by_cert_manager: bool,
) -> Result<Vec<Finding>, Box<Finding>> {
    let leaf_hint = || rotate("leaf", by_cert_manager);
    let fail = |message: String, hint: String| Box::new(problem(message, hint));
    let read = |key: &str, which: &str| {
        let pem = secret.get(key).map(Vec::as_slice).unwrap_or_default();
        CertificateDer::from_pem_slice(pem).map_err(|_| {
            fail(format!("{key} in the Secret {SECRET} is no certificate"), rotate(which, by_cert_manager))
        })
    };
    let (ca_der, leaf_der) = (read("ca.crt", "ca")?, read("tls.crt", "leaf")?);
    let parse = |der: &CertificateDer<'_>| X509Certificate::from_der(der).ok().map(|(rest, _)| rest.len());
    if parse(&ca_der).is_none() || parse(&leaf_der).is_none() {
        return Err(fail(format!("a certificate in the Secret {SECRET} cannot be read"), leaf_hint()));
    }
    let (Ok((_, ca)), Ok((_, leaf))) = (X509Certificate::from_der(&ca_der), X509Certificate::from_der(&leaf_der))
    else {
        return Err(fail(format!("a certificate in the Secret {SECRET} cannot be read"), leaf_hint()));
    };
    let mut findings = Vec::new();
    let key = secret.get("tls.key").and_then(|pem| PrivateKeyDer::from_pem_slice(pem).ok());
    let key = key.and_then(|key| rustls::crypto::ring::sign::any_supported_type(&key).ok());
    match key {
        None => findings.push(problem(format!("tls.key in the Secret {SECRET} is no private key"), leaf_hint())),
        Some(key) => {
            if rustls::sign::CertifiedKey::new(vec![leaf_der.clone()], key).keys_match().is_err() {
                findings.push(problem(
                    "the leaf's key is another certificate's: no connection can be made".to_owned(),
                    leaf_hint(),
                ));
            }
        }
    }
    if leaf.verify_signature(Some(ca.public_key())).is_err() {
        let message =
            "the leaf is not signed by the CA beside it: the API server does not believe the webhook".to_owned();
        findings.push(problem(message, leaf_hint()));
    }
    let name = format!("{NAME}.{HOME}.svc");
    let names = leaf.subject_alternative_name().ok().flatten().map(|names| names.value.general_names.clone());
    let is_name = |one: &GeneralName<'_>| matches!(one, GeneralName::DNSName(found) if *found == name);
    if !names.unwrap_or_default().iter().any(is_name) {
        findings.push(problem(format!("the leaf is not for {name}, by which the API server calls"), leaf_hint()));
    }
    for (what, which, certificate) in [("CA", "ca", &ca), ("leaf", "leaf", &leaf)] {
        findings.extend(age(what, certificate, now).map(|why| problem(why, rotate(which, by_cert_manager))));
    }
    Ok(findings)
}

/// What the end of a certificate says.
fn age(what: &str, certificate: &X509Certificate<'_>, now: DateTime<Utc>) -> Option<String> {
    let (from, to) = life(certificate)?;
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    if now < from {
        return Some(format!("the {what} is good only from {} on", day(from)));
    }
    if now >= to {
        return Some(format!("the {what} ended at {}: the API server does not believe the webhook", day(to)));
    }
    let life = to - from;
    let overdue = to - life / 3 + LATE.min(life / 12);
    (now > overdue)
        .then(|| format!("the {what} ends at {}, and should have been renewed by {}", day(to), day(to - life / 3)))
}

fn life(certificate: &X509Certificate<'_>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| DateTime::from_timestamp(time.timestamp(), 0);
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

fn end(pem: &[u8]) -> Option<DateTime<Utc>> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    life(&certificate).map(|(_, to)| to)
}

fn ders(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// Whether every webhook names the CA, and nobody else's.
fn bundles(known: &Certificates, secret: &BTreeMap<String, Vec<u8>>, now: DateTime<Utc>) -> Vec<Finding> {
    let of = |key: &str| secret.get(key).map(|pem| ders(pem)).unwrap_or_default();
    let ca = of("ca.crt");
    let ours: Vec<_> = ca.iter().cloned().chain(of("ca-next.crt")).chain(of("ca-previous.crt")).collect();
    let mut without = Vec::new();
    let mut foreign = Vec::new();
    for (webhook, bundle) in &known.bundles {
        let bundle = ders(bundle);
        if !ca.iter().any(|ca| bundle.contains(ca)) {
            without.push(webhook.as_str());
        }
        if bundle.iter().any(|one| !ours.contains(one)) {
            foreign.push(webhook.as_str());
        }
    }
    let hint = || match known.by_cert_manager {
        true => "kubectl -n cert-manager get pods".to_owned(),
        false => format!("the webhook repairs this within seconds; see why it does not: kubectl -n {HOME} get pods"),
    };
    let mut findings = Vec::new();
    if !without.is_empty() {
        let message =
            format!("the caBundle of {} has not the CA: the API server does not believe the webhook", some(&without));
        findings.push(Finding::new(Level::Problem, CHECK, message).hint(hint()));
    }
    // cert-manager keeps the CAs that were in a bundle as long as they last.
    if !foreign.is_empty() && !known.by_cert_manager {
        let message = format!(
            "the caBundle of {} has a CA that is not the webhook's: whoever has its key can answer",
            some(&foreign)
        );
        findings.push(Finding::new(Level::Problem, CHECK, message).hint(hint()));
    }
    if findings.is_empty() {
        findings.extend(ended(&known.bundles, now, known.by_cert_manager));
    }
    findings
}

/// Bundles of which nothing is good any more.
fn ended(bundles: &[(String, Vec<u8>)], now: DateTime<Utc>, by_cert_manager: bool) -> Option<Finding> {
    let is_good = |der: &CertificateDer<'_>| {
        let parsed = X509Certificate::from_der(der).ok();
        parsed.and_then(|(_, one)| life(&one)).is_some_and(|(from, to)| from <= now && now < to)
    };
    let bad: Vec<&str> = bundles
        .iter()
        .filter(|(_, bundle)| !ders(bundle).iter().any(is_good))
        .map(|(webhook, _)| webhook.as_str())
        .collect();
    (!bad.is_empty()).then(|| {
        let message = format!("the caBundle of {} has no CA that is good now", some(&bad));
        Finding::new(Level::Problem, CHECK, message).hint(rotate("ca", by_cert_manager))
    })
}

fn some(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} and {other}"),
        many => format!("{} webhooks, {} among them,", many.len(), many[0]),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    const SVC: &str = "breakglass-webhook.breakglass-system.svc";

    fn noon() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn valid(params: &mut CertificateParams, from: i64, to: i64) {
        let day = |days: i64| {
            time::OffsetDateTime::from_unix_timestamp((noon() + TimeDelta::days(days)).timestamp()).unwrap()
        };
        (params.not_before, params.not_after) = (day(from), day(to));
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        valid(&mut params, -10, 3_640);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(ca: &Authority, name: &str, from: i64, to: i64) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        valid(&mut params, from, to);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
    }

    fn secret(ca: &Authority, (leaf, key): (String, String)) -> BTreeMap<String, Vec<u8>> {
        [("ca.crt", ca.pem()), ("tls.crt", leaf), ("tls.key", key)]
            .map(|(key, value)| (key.to_owned(), value.into_bytes()))
            .into()
    }

    #[track_caller]
    fn check(secret: &BTreeMap<String, Vec<u8>>, bundle: &str, expected: &[(&str, &str)]) {
        let bundles = vec![("gate.breakglass.dev".to_owned(), bundle.as_bytes().to_vec())];
        let known = Certificates { secret: Some(Some(secret.clone())), bundles, by_cert_manager: false };
        let found = certificates(&known, noon());
        let problems: Vec<_> = found.iter().filter(|finding| finding.level == Level::Problem).collect();
        assert_eq!(problems.len(), expected.len(), "{found:#?}");
        assert_eq!(found.iter().any(|finding| finding.level == Level::Ok), expected.is_empty(), "{found:#?}");
        for (problem, (message, hint)) in problems.iter().zip(expected) {
            assert!(problem.message.contains(message), "{problem:#?}");
            assert!(problem.hints[0].contains(hint), "{problem:#?}");
        }
    }

    #[test]
    fn what_the_api_server_would_not_believe_is_named() {
        let (ca, other) = (authority(), authority());
        let good = || leaf(&ca, SVC, -10, 80);
        let (bundle, leaf_hint) = (ca.pem(), "breakglass.dev/rotate=leaf");
        check(&secret(&ca, good()), &bundle, &[]);
        check(&secret(&ca, leaf(&other, SVC, -10, 80)), &bundle, &[("not signed by the CA", leaf_hint)]);
        check(&secret(&ca, leaf(&ca, "example.com", -10, 80)), &bundle, &[("the leaf is not for", leaf_hint)]);
        check(&secret(&ca, leaf(&ca, SVC, -90, 0)), &bundle, &[("the leaf ended at 2026-11-20", leaf_hint)]);
        check(&secret(&ca, leaf(&ca, SVC, 1, 80)), &bundle, &[("good only from", leaf_hint)]);
        check(&secret(&ca, leaf(&ca, SVC, -62, 28)), &bundle, &[("should have been renewed by 2026-11-18", leaf_hint)]);
        check(&secret(&ca, leaf(&ca, SVC, -60, 30)), &bundle, &[]);
        let mixed = (good().0, good().1);
        check(&secret(&ca, mixed), &bundle, &[("key is another certificate's", leaf_hint)]);
        let mut broken = secret(&ca, good());
        broken.insert("tls.crt".to_owned(), b"nonsense".to_vec());
        check(&broken, &bundle, &[("tls.crt in the Secret breakglass-webhook-tls is no certificate", leaf_hint)]);
        check(&secret(&ca, good()), "", &[("caBundle of gate.breakglass.dev has not the CA", "get pods")]);
        check(
            &secret(&ca, good()),
            &format!("{bundle}{}", other.pem()),
            &[("a CA that is not the webhook's", "get pods")],
        );
        // During a rotation the next CA is trusted before it signs.
        let mut rotating = secret(&ca, good());
        rotating.insert("ca-next.crt".to_owned(), other.pem().into_bytes());
        check(&rotating, &format!("{bundle}{}", other.pem()), &[]);
    }

    #[test]
    fn who_may_not_read_the_secret_is_told_so_and_a_missing_one_is_a_problem() {
        let bundles = vec![("gate.breakglass.dev".to_owned(), authority().pem().into_bytes())];
        let unread = Certificates { secret: None, bundles, by_cert_manager: false };
        let found = certificates(&unread, noon());
        assert_eq!((found.len(), found[0].level), (1, Level::Note), "{found:#?}");
        let gone = Certificates { secret: Some(None), ..unread };
        let found = certificates(&gone, noon());
        assert!(found[0].level == Level::Problem && found[0].message.starts_with("there is no Secret"), "{found:#?}");
    }
}
