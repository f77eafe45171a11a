//! A few bodies as client-go sends them for built-in kinds: protobuf (k8s.io/api generated.proto), in Kubernetes' envelope.

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// One field of a message.
enum Field<'a> {
    Text(u32, &'a str),
    Message(u32, Vec<u8>),
    Number(u32, u64),
}

use Field::{Message, Number, Text};

/// A ConfigMap with one key.
pub(super) fn config_map(name: &str, namespace: &str) -> Vec<u8> {
    let entry = message(&[Text(1, "key"), Text(2, "value")]);
    envelope("v1", "ConfigMap", message(&[Message(1, metadata(name, namespace)), Message(2, entry)]))
}

/// How something is to be deleted.
pub(super) fn delete_options(grace: u64, propagation: &str) -> Vec<u8> {
    envelope("v1", "DeleteOptions", message(&[Number(1, grace), Text(4, propagation)]))
}

/// An eviction of a pod.
pub(super) fn eviction(name: &str, namespace: &str) -> Vec<u8> {
    envelope("policy/v1", "Eviction", message(&[Message(1, metadata(name, namespace))]))
}

/// A pod's binding to a node.
pub(super) fn binding(name: &str, namespace: &str, node: &str) -> Vec<u8> {
    let target = message(&[Text(1, "Node"), Text(3, node)]);
    envelope("v1", "Binding", message(&[Message(1, metadata(name, namespace)), Message(2, target)]))
}

/// A number of replicas.
pub(super) fn scale(name: &str, namespace: &str, replicas: u64) -> Vec<u8> {
    let spec = message(&[Number(1, replicas)]);
    envelope("autoscaling/v1", "Scale", message(&[Message(1, metadata(name, namespace)), Message(2, spec)]))
}

/// A Namespace with the finalizers that it is to have.
pub(super) fn namespace(name: &str, finalizer: &str) -> Vec<u8> {
    let spec = message(&[Text(1, finalizer)]);
    envelope("v1", "Namespace", message(&[Message(1, metadata(name, "")), Message(2, spec)]))
}

fn metadata(name: &str, namespace: &str) -> Vec<u8> {
    message(&[Text(1, name), Text(3, namespace)])
}

/// What says of which kind the message is (apimachinery pkg/runtime: Unknown).
fn envelope(version: &str, kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let type_meta = message(&[Text(1, version), Text(2, kind)]);
    [&b"k8s\0"[..], &message(&[Message(1, type_meta), Message(2, raw)])].concat()
}

fn message(fields: &[Field<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        match field {
            Text(number, text) => sized(&mut bytes, *number, text.as_bytes()),
            Message(number, message) => sized(&mut bytes, *number, message),
            Number(number, value) => {
                varint(&mut bytes, u64::from(*number) << 3);
                varint(&mut bytes, *value);
            }
        }
    }
    bytes
}

fn sized(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(bytes, (u64::from(number) << 3) | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
