//! A Deployment as controllers send it: in protobuf, where a character takes no more room than it does in memory. Just as much
//! of the format as that takes.

/// The media type.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// A field with a length: text, bytes or a message (wire type 2).
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            break;
        }
        bytes.push(low | 0x80);
    }
    bytes.extend_from_slice(content);
    bytes
}

fn text(number: u8, content: &str) -> Vec<u8> {
    field(number, content.as_bytes())
}

/// A Deployment without replicas, one of whose environment variables has this value (k8s.io/api/{core,apps}/v1/generated.proto).
#[must_use]
pub fn deployment(name: &str, image: &str, value: &str) -> Vec<u8> {
    let label = [text(1, "app"), text(2, name)].concat();
    let variable = [text(1, "VALUE"), text(2, value)].concat();
    let container = [text(1, "main"), text(2, image), field(7, &variable)].concat();
    let template = [field(1, &field(11, &label)), field(2, &field(2, &container))].concat();
    // `replicas: 0` is a number (wire type 0).
    let spec = [vec![1 << 3, 0], field(2, &field(1, &label)), field(3, &template)].concat();
    let object = [field(1, &text(1, name)), field(2, &spec)].concat();
    // Every message stands in an envelope that says what it is (apimachinery pkg/runtime/generated.proto, Unknown).
    let kind = [text(1, "apps/v1"), text(2, "Deployment")].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, &object)].concat()
}
