//! Seal: names and hashes that only the holder of the cluster's key can make.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::api::{BreakglassToken, Operation, Timestamp};
use crate::write::Write;

/// The cluster's key. It lives in a Secret that only the webhook reads.
#[derive(Clone)]
pub struct Key([u8; Key::BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What the text begins with that stands in a record for a value that nobody may read there.
pub const HIDDEN: &str = "hidden:";

/// Crockford's base 32: no letters that are read as digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of a change's name that make it unlike others of the same content: 20 bits.
const NONCE_CHARS: usize = 4;

/// Characters of a change's name that prove it: 60 bits. Each guess costs a request to the API server.
const PROOF_CHARS: usize = 12;

impl Key {
    /// The length of the key: that of the hash.
    pub const BYTES: usize = 32;

    /// A key from random bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A hash of a list of texts. `purpose` keeps hashes for one use from being good for another; lengths are hashed
    /// with the texts, so that no two lists run together.
    fn hash(&self, purpose: &str, parts: &[&str]) -> [u8; 32] {
        // HMAC takes keys of every length; the error exists for other constructions of the same trait.
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(_) => return [0; 32],
        };
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// What names the attempts of one write; the texts say which.
    pub fn name_attempt(&self, parts: &[&str]) -> String {
        encode(&self.hash("attempt", parts), 16)
    }

    /// What stands in a record for a value that nobody may read there: equal values give equal hashes.
    pub fn hide(&self, value: &str) -> String {
        format!("{HIDDEN}{}", encode(&self.hash("hide", &[value]), 16))
    }
}

/// The first `chars` groups of five bits; zeros where the bytes end.
fn encode(bytes: &[u8], chars: usize) -> String {
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    let group = |bit: usize| ((byte(bit / 8) << 8 | byte(bit / 8 + 1)) >> (11 - bit % 8)) & 31;
    (0..chars).map(|index| char::from(ALPHABET[usize::from(group(index * 5))])).collect()
}

/// What a change's name vouches for: who wrote what, under which token, from which state, when.
///
/// A stamp that was moved to another object, another state of the same object, another user or another token does not
/// verify; nor does one that somebody made up.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    incident: &'a str,
    parts: Vec<String>,
}

impl<'a> Claim<'a> {
    /// The claim of a write under a token at a time.
    ///
    /// A delete is claimed without time and version: the API server asks twice about one delete, with another
    /// resourceVersion the second time (registry/generic/registry/store.go Delete), and may be asked again while a
    /// finalizer holds the object; a drain asks again until a disruption budget lets the pod go. It is one change.
    pub fn new(write: &Write<'_>, token: &'a BreakglassToken, time: Timestamp) -> Self {
        let generated = write.after.as_ref().filter(|_| write.object_name().is_empty());
        let object = match generated {
            Some(after) => wildcard(&after.metadata.generate_name),
            None => write.object_name().to_owned(),
        };
        Self::about(write, token, time, object)
    }

    /// The claims that a stamp may have been made for, seen when the name is known: the API server makes a name from
    /// generateName between the two calls.
    pub fn candidates(write: &Write<'_>, token: &'a BreakglassToken, time: Timestamp) -> Vec<Self> {
        let mut claims = vec![Self::new(write, token, time)];
        let prefix = write.after.as_ref().map_or("", |after| after.metadata.generate_name.as_str());
        if write.operation() == Operation::Create && !prefix.is_empty() && write.object_name().starts_with(prefix) {
            claims.push(Self::about(write, token, time, wildcard(prefix)));
        }
        claims
    }

    fn about(write: &Write<'_>, token: &'a BreakglassToken, time: Timestamp, object: String) -> Self {
        let before = write.before.as_ref().map(|before| &before.metadata);
        let once = is_once(write);
        let version = before.filter(|_| !once).map_or(String::new(), |metadata| metadata.resource_version.clone());
        let parts = vec![
            write.requester.user.clone(),
            token.metadata.uid.clone().unwrap_or_default(),
            write.resource.qualified(),
            write.resource.subresource.clone().unwrap_or_default(),
            write.namespace.clone().unwrap_or_default(),
            object,
            before.map_or(String::new(), |metadata| metadata.uid.clone()),
            version,
            write.operation().as_str().to_owned(),
            if once { String::new() } else { time.to_string() },
        ];
        Self { incident: &token.spec.incident, parts }
    }

    /// A name for this change. `random` makes two changes of one second and one content two changes.
    pub fn name(&self, key: &Key, random: u32) -> String {
        self.assemble(key, &encode(&random.to_be_bytes(), NONCE_CHARS))
    }

    /// The one name for this change, however often it is asked for.
    pub fn only_name(&self, key: &Key) -> String {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        self.assemble(key, &encode(&key.hash("only", &parts), NONCE_CHARS))
    }

    /// Whether `name` is a name that the key's holder gave to this change.
    pub fn verifies(&self, key: &Key, name: &str) -> bool {
        let prefix = format!("{}-", self.incident.to_ascii_lowercase());
        let nonce = name.strip_prefix(&prefix).and_then(|rest| rest.get(..NONCE_CHARS));
        nonce.is_some_and(|nonce| self.assemble(key, nonce) == name)
    }

    fn assemble(&self, key: &Key, nonce: &str) -> String {
        let parts: Vec<&str> = std::iter::once(nonce).chain(self.parts.iter().map(String::as_str)).collect();
        let proof = encode(&key.hash("change", &parts), PROOF_CHARS);
        format!("{}-{nonce}{proof}", self.incident.to_ascii_lowercase())
    }
}

/// Whether asking again is asking for the same: what is gone cannot go twice.
pub fn is_once(write: &Write<'_>) -> bool {
    matches!(write.operation(), Operation::Delete | Operation::Evict)
}

/// How a name that is still to be made stands in a claim. No name of Kubernetes has a star in it.
fn wildcard(prefix: &str) -> String {
    format!("{prefix}*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_hide_alike_and_nothing_else_does() {
        let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
        assert_eq!(key.hide("a"), key.hide("a"));
        assert_ne!(key.hide("a"), key.hide("b"));
        assert_ne!(key.hide("a"), other.hide("a"));
        assert!(!format!("{key:?}").contains('1'));
    }

    #[test]
    fn lists_do_not_run_together() {
        let key = Key::new([1; 32]);
        assert_ne!(key.hash("p", &["ab", "c"]), key.hash("p", &["a", "bc"]));
        assert_ne!(key.hash("p", &["a"]), key.hash("pa", &[]));
    }

    #[test]
    fn encoding_uses_every_bit() {
        assert_eq!(encode(&[0xff, 0xff, 0xff, 0xff, 0xff], 8), "zzzzzzzz");
        assert_eq!(encode(&[0x00, 0x44, 0x32, 0x14, 0xc7], 8), "01234567");
    }
}
