//! Bytes that are almost what they were: JSON that is changed as JSON, with the words that decide something, and bytes that
//! are broken like bytes.

use serde_json::{Value, json};

/// Names that something hangs on.
const NAMES: [&str; 34] = [
    "metadata",
    "annotations",
    "labels",
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "manager",
    "fieldManager",
    "finalizers",
    "deletionTimestamp",
    "status",
    "data",
    "stringData",
    "object",
    "oldObject",
    "subResource",
    "dryRun",
    "options",
    "extra",
    "authentication.kubernetes.io/pod-name",
    "authentication.kubernetes.io/credential-id",
    "breakglass.dev/user",
    "breakglass.dev/time",
    "breakglass.dev/change",
    "breakglass.dev/state",
    "breakglass.dev/environment",
    "kubectl.kubernetes.io/last-applied-configuration",
    "a/b~1",
    "",
    "ü",
];

/// Texts that something hangs on.
const TEXTS: [&str; 38] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    "CONNECT",
    "alice@example.com",
    "system:serviceaccount:flux-system:kustomize-controller",
    "system:serviceaccount:prod:operator",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:node:n",
    "system:nodes",
    "system:masters",
    "breakglass.dev:override",
    "prod",
    "dev",
    "staging",
    "flux-system",
    "",
    "apps",
    "status",
    "scale",
    "eviction",
    "binding",
    "exec",
    "ephemeralcontainers",
    "token",
    "finalize",
    "namespaces",
    "pods",
    "secrets",
    "Secret",
    "serviceaccounts",
    "inc-123-prod",
    "INC-123",
    "pending",
    "noted",
    "2026-11-21T00:00:00Z",
    "\u{0}\u{1f600}<\"\\",
    "Y2FuYXJ5IG9mIGEgc2VjcmV0",
];

/// Numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next of all numbers (splitmix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`; zero where there is none.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    fn choose<'c, T: ?Sized>(&mut self, from: &[&'c T]) -> &'c T {
        from[self.below(from.len())]
    }
}

/// Changes bytes a little, to at most `limit` bytes.
#[must_use]
pub fn mutate(bytes: &[u8], limit: usize, random: &mut Random) -> Vec<u8> {
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let mut mutated = match documents {
        Ok(documents) if !documents.is_empty() && random.below(16) > 0 => as_documents(documents, random),
        _ => bytes.to_vec(),
    };
    if random.below(12) == 0 {
        as_bytes(&mut mutated, random);
    }
    mutated.truncate(limit);
    mutated
}

/// Does to libFuzzer's buffer what `mutate` does to bytes, and half of the time what libFuzzer does. Returns the new size.
pub fn mutate_or(
    buffer: &mut [u8],
    size: usize,
    limit: usize,
    seed: u32,
    other: fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut random = Random::new(u64::from(seed));
    if random.below(2) == 0 {
        return other(buffer, size, limit);
    }
    let mutated = mutate(&buffer[..size], limit, &mut random);
    buffer[..mutated.len()].copy_from_slice(&mutated);
    mutated.len()
}

fn as_documents(mut documents: Vec<Value>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let from = random.below(documents.len());
        let donor = node(&mut documents[from], 0, random).clone();
        let to = random.below(documents.len());
        change(node(&mut documents[to], 0, random), donor, random);
    }
    let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
    texts.join("\n").into_bytes()
}

/// A value somewhere in a document: down from the top, on or not at each step, and rather to what has more below it.
fn node<'v>(value: &'v mut Value, depth: usize, random: &mut Random) -> &'v mut Value {
    let branches: Vec<bool> = match &*value {
        Value::Object(fields) => fields.values().map(is_branch).collect(),
        Value::Array(items) => items.iter().map(is_branch).collect(),
        _ => Vec::new(),
    };
    // Mostly down: what is near the top breaks the whole.
    if branches.is_empty() || random.below(if depth < 2 { 40 } else { 5 }) == 0 {
        return value;
    }
    let full: Vec<usize> = (0..branches.len()).filter(|&at| branches[at]).collect();
    let at = match full.len() {
        0 => random.below(branches.len()),
        _ if random.below(8) == 0 => random.below(branches.len()),
        count => full[random.below(count)],
    };
    match value {
        Value::Object(fields) => node(fields.values_mut().nth(at).expect("there are as many"), depth + 1, random),
        Value::Array(items) => node(&mut items[at], depth + 1, random),
        _ => unreachable!("it has none below"),
    }
}

fn is_branch(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn change(value: &mut Value, donor: Value, random: &mut Random) {
    match (random.below(6), value) {
        (0, Value::Object(fields)) => {
            let name = fields.keys().nth(random.below(fields.len())).cloned();
            name.map(|name| fields.remove(&name));
        }
        (1..=2, Value::Object(fields)) => {
            fields.insert(random.choose(&NAMES).to_owned(), donor);
        }
        (3..=4, Value::Object(fields)) => {
            fields.insert(random.choose(&NAMES).to_owned(), leaf(random));
        }
        (0, Value::Array(items)) => {
            items.pop();
        }
        (1..=2, Value::Array(items)) => items.insert(random.below(items.len()), donor),
        (3, Value::Array(items)) => items.reverse(),
        (0, Value::String(text)) => text.push_str(random.choose(&TEXTS)),
        (1..=4, Value::String(text)) => *text = random.choose(&TEXTS).to_owned(),
        (2, value) => *value = donor,
        (_, value) => *value = leaf(random),
    }
}

fn leaf(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!([0u64, 1, u64::MAX, 1 << 63][random.below(4)]),
        3 => json!([-0.0, 0.1, 1e300, -1.5][random.below(4)]),
        4 => json!({}),
        5 => json!([]),
        _ => json!(random.choose(&TEXTS)),
    }
}

fn as_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next().to_le_bytes()[0]),
        2 => {
            let end = (at + 1 + random.below(16)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        3 => {
            let again = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let deep = [&b"{["[..], b"[[", b"{\"a\":"][random.below(3)].repeat(random.below(200));
            bytes.splice(at..at, deep);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}
