//! The name of an image and which version of it: as kustomize takes them apart.

use serde_json::{Map, Value, json};

/// An image reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Registry and repository.
    pub name: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<String>,
}

impl Image {
    /// Takes one apart: a colon before the last slash is that of a port.
    pub fn parse(text: &str) -> Self {
        let (rest, digest) =
            text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest.to_owned())));
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        match rest[slash..].find(':') {
            Some(colon) => {
                let (name, tag) = rest.split_at(slash + colon);
                Self { name: name.to_owned(), tag: Some(tag[1..].to_owned()), digest }
            }
            None => Self { name: rest.to_owned(), tag: None, digest },
        }
    }

    /// An entry of `images:` that makes an image of `name` this one; what else the entry says stays.
    pub fn entry(&self, name: &str, known: Option<&Map<String, Value>>) -> Value {
        let mut entry = known.cloned().unwrap_or_else(|| Map::from_iter([("name".to_owned(), json!(name))]));
        let renamed = known.and_then(|known| known.get("newName"));
        if self.name != name || renamed.is_some_and(|renamed| renamed != &json!(self.name)) {
            entry.insert("newName".to_owned(), json!(self.name));
        }
        for (field, value) in [("newTag", &self.tag), ("digest", &self.digest)] {
            match value {
                Some(value) => drop(entry.insert(field.to_owned(), json!(value))),
                None => drop(entry.remove(field)),
            }
        }
        Value::Object(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_taken_apart() {
        for (text, name, tag, digest) in [
            ("nginx", "nginx", None, None),
            ("nginx:1.27", "nginx", Some("1.27"), None),
            ("localhost:5000/a/b", "localhost:5000/a/b", None, None),
            ("localhost:5000/a/b:1", "localhost:5000/a/b", Some("1"), None),
            ("a/b:1@sha256:00", "a/b", Some("1"), Some("sha256:00")),
            ("a/b@sha256:00", "a/b", None, Some("sha256:00")),
        ] {
            let expected =
                Image { name: name.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) };
            assert_eq!(Image::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_entry_says_what_is_new_and_keeps_what_it_is_called() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        for (image, name, known, expected) in [
            ("a:2", "a", None, json!({"name": "a", "newTag": "2"})),
            ("b:2", "a", None, json!({"name": "a", "newName": "b", "newTag": "2"})),
            (
                "b:2",
                "a",
                Some(json!({"name": "a", "newName": "b", "newTag": "1"})),
                json!({"name": "a", "newName": "b", "newTag": "2"}),
            ),
            ("a@sha256:1", "a", Some(json!({"name": "a", "newTag": "1"})), json!({"name": "a", "digest": "sha256:1"})),
        ] {
            let known = known.map(map);
            assert_eq!(Image::parse(image).entry(name, known.as_ref()), expected, "{image}");
        }
    }
}
