//! Reading JSON values of doubtful type: what is not of the expected kind counts as absent, so
//! that one bad value harms only itself. For `#[serde(deserialize_with)]`.
//!
//! Nothing is buffered: values that are not wanted are skipped by the parser.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value without its containers.
enum Leaf {
    Text(String),
    Bool(bool),
    Unsigned(u64),
    Float(f64),
    Other,
}

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor)
    }
}

struct LeafVisitor;

impl<'de> Visitor<'de> for LeafVisitor {
    type Value = Leaf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_str<E>(self, text: &str) -> Result<Leaf, E> {
        Ok(Leaf::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Leaf, E> {
        Ok(Leaf::Text(text))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Leaf, E> {
        Ok(Leaf::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Leaf, E> {
        Ok(Leaf::Unsigned(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Leaf, E> {
        Ok(u64::try_from(value).map_or(Leaf::Other, Leaf::Unsigned))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Leaf, E> {
        Ok(Leaf::Float(value))
    }
    fn visit_unit<E>(self) -> Result<Leaf, E> {
        Ok(Leaf::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Leaf, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Leaf, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }
}

/// A string.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Leaf::deserialize(from)? {
        Leaf::Text(text) => Some(text),
        _ => None,
    })
}

/// A boolean.
pub(crate) fn boolean<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    Ok(match Leaf::deserialize(from)? {
        Leaf::Bool(value) => Some(value),
        _ => None,
    })
}

/// A number.
pub(crate) fn float<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(match Leaf::deserialize(from)? {
        Leaf::Float(value) => Some(value),
        // Mesos writes times as numbers far below 2^53, where every integer is exact.
        Leaf::Unsigned(value) => u32::try_from(value)
            .map(f64::from)
            .ok()
            .or_else(|| value.to_string().parse().ok()),
        _ => None,
    })
}

/// A port number, also when written as a number with a fraction of zero.
pub(crate) fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    Ok(match Leaf::deserialize(from)? {
        Leaf::Unsigned(value) => u16::try_from(value).ok(),
        // The cast saturates; what it changes was no port number.
        Leaf::Float(value) => Some(value as u16).filter(|&port| f64::from(port) == value),
        _ => None,
    })
}

/// A whole number, also when written with a fraction of zero.
pub(crate) fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(match Leaf::deserialize(from)? {
        Leaf::Unsigned(value) => i64::try_from(value).ok(),
        // Within 32 bits, where every float of the value is exact; the cast saturates beyond.
        Leaf::Float(value) => Some(value as i32)
            .filter(|&number| f64::from(number) == value)
            .map(i64::from),
        _ => None,
    })
}

/// Whether the key is there, whatever its value.
pub(crate) fn present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from)?;
    Ok(true)
}

/// An object.
pub(crate) fn object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(from).map(|object| object.0)
}

/// An object; anything else gives the default one.
pub(crate) fn object_or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    object(from).map(Option::unwrap_or_default)
}

/// An array of objects; elements that are no objects are left out.
pub(crate) fn list<'de, D, T>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_any(ListVisitor(PhantomData))
}

/// The string in a Mesos id, `{"value": "…"}`.
pub(crate) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Id {
        #[serde(default, deserialize_with = "text")]
        value: Option<String>,
    }
    Ok(object::<D, Id>(from)?.and_then(|id| id.value))
}

struct Object<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

/// Answers `None` to everything but what the implementation takes.
macro_rules! absent_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    };
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    absent_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Option<Vec<T>>;

    absent_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Object<T>>()? {
            items.extend(item.0);
        }
        Ok(Some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "text")]
        name: Option<String>,
        #[serde(deserialize_with = "port")]
        port: Option<u16>,
        #[serde(deserialize_with = "float")]
        time: Option<f64>,
        #[serde(deserialize_with = "boolean")]
        healthy: Option<bool>,
        #[serde(deserialize_with = "id")]
        id: Option<String>,
        #[serde(deserialize_with = "present")]
        check: bool,
        #[serde(deserialize_with = "list")]
        inner: Option<Vec<Sample>>,
    }

    #[test]
    fn values_of_the_expected_kind_are_read() {
        let json = r#"{"name":"a","port":80.0,"time":2,"healthy":false,"id":{"value":"x"},
            "check":null,"inner":[{"port":443}],"unknown":[{}]}"#;
        let sample: Sample = serde_json::from_str(json).unwrap();
        assert_eq!(
            sample,
            Sample {
                name: Some("a".into()),
                port: Some(80),
                time: Some(2.0),
                healthy: Some(false),
                id: Some("x".into()),
                check: true,
                inner: Some(vec![Sample {
                    port: Some(443),
                    ..Sample::default()
                }]),
            }
        );
    }

    #[test]
    fn other_values_count_as_absent() {
        for value in [
            "null", "[]", "{}", "-1", "1.5", "70000", "true", "\"x\"", "[[{}]]",
        ] {
            for key in ["name", "port", "id", "inner"] {
                let json = format!(r#"{{"{key}":{value},"time":1.5}}"#);
                let sample: Sample = serde_json::from_str(&json).unwrap();
                assert_eq!(sample.time, Some(1.5), "{json}");
                assert_eq!(sample.port, None, "{json}");
            }
        }
        let json = r#"{"inner":[1,"x",null,{"name":"kept"},[{}]]}"#;
        let sample: Sample = serde_json::from_str(json).unwrap();
        assert_eq!(sample.inner.unwrap().len(), 1);
    }
}
