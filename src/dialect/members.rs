//! Reads the members of a JSON object that comes from outside. They are read one by one: as a tree, an object of many
//! small values would take forty times the memory of its text. The error messages are our own, since those of a parser
//! are meant for programmers.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// A member that a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    Type,
    Channel,
    Data,
    Event,
    Key,
    Since,
    Token,
    Last,
    Base64,
    Ref,
    User,
    Echo,
    Except,
    Pattern,
    Presence,
}

impl Member {
    fn name(self) -> &'static str {
        match self {
            Member::Type => "type",
            Member::Channel => "channel",
            Member::Data => "data",
            Member::Event => "event",
            Member::Key => "key",
            Member::Since => "since",
            Member::Token => "token",
            Member::Last => "last",
            Member::Base64 => "base64",
            Member::Ref => "ref",
            Member::User => "user",
            Member::Echo => "echo",
            Member::Except => "except",
            Member::Pattern => "pattern",
            Member::Presence => "presence",
        }
    }

    fn value_type(self) -> ValueType {
        match self {
            Member::Last | Member::Ref => ValueType::Number,
            Member::Base64 | Member::Echo | Member::Presence => ValueType::Flag,
            _ => ValueType::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    Text,
    Number,
    Flag,
}

impl ValueType {
    fn in_words(self) -> &'static str {
        match self {
            ValueType::Text => "a text",
            ValueType::Number => "a whole number",
            ValueType::Flag => "true or false",
        }
    }
}

/// The value of a member.
#[derive(Debug, Clone)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Flag(bool),
}

/// The members that were asked for and are there. A member that is null counts as missing.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>([Option<Value<'a>>; 15]);

impl<'a> Members<'a> {
    /// Takes a text. `None` if the member is missing.
    pub(crate) fn text(&mut self, member: Member) -> Option<Cow<'a, str>> {
        match self.0[member as usize].take() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes a text that must be there.
    pub(crate) fn needed(&mut self, member: Member) -> Result<Cow<'a, str>, String> {
        self.text(member).ok_or_else(|| format!("{} is missing", member.name()))
    }

    pub(crate) fn number(&self, member: Member) -> Option<u64> {
        match self.0[member as usize] {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, member: Member) -> bool {
        matches!(self.0[member as usize], Some(Value::Flag(true)))
    }

    /// A flag that is set unless it is false.
    pub(crate) fn flag_unless_false(&self, member: Member) -> bool {
        !matches!(self.0[member as usize], Some(Value::Flag(false)))
    }
}

/// Reads these members. Other members are ignored.
pub(crate) fn read<'a>(text: &'a [u8], wanted: &[Member]) -> Result<Members<'a>, String> {
    let error_text = RefCell::default();
    let object = Object { wanted, only: false, error_text: &error_text };
    whole(text, object).map_err(|error| sentence(&error, error_text.take(), "an object is expected"))
}

/// Reads an array of at most `max` objects. They may have these members and no others.
pub(crate) fn read_list<'a, T>(
    text: &'a [u8],
    wanted: &[Member],
    max: usize,
    take: impl FnMut(Members<'a>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let error_text = RefCell::default();
    let list = List { object: Object { wanted, only: true, error_text: &error_text }, max, take };
    whole(text, list).map_err(|error| sentence(&error, error_text.take(), "an array of objects is expected"))
}

fn whole<'a, S: DeserializeSeed<'a>>(text: &'a [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut json)?;
    json.end().map(|()| value)
}

fn sentence(error: &serde_json::Error, error_text: Option<String>, expected: &str) -> String {
    match error.classify() {
        Category::Data => error_text.unwrap_or_else(|| expected.into()),
        _ => format!("not valid JSON, or nested too deep, at line {}, column {}", error.line(), error.column()),
    }
}

/// Reads an object.
#[derive(Clone, Copy)]
struct Object<'w> {
    wanted: &'w [Member],
    /// True if other members are an error.
    only: bool,
    /// The error message, if reading ends here.
    error_text: &'w RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(member) = map.next_key_seed(Name(self))? {
            let Some(member) = member else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.error_text.replace(Some(format!("{} must be {}", member.name(), member.value_type().in_words())));
            let value = map.next_value_seed(ValueOf(member.value_type()))?;
            self.error_text.replace(None);
            if std::mem::replace(&mut members.0[member as usize], value).is_some() {
                self.error_text.replace(Some(format!("{} is given twice", member.name())));
                return Err(A::Error::custom(""));
            }
        }
        Ok(members)
    }
}

/// Reads a member's name. `None` if the member is to be ignored.
struct Name<'w>(Object<'w>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Member>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let Object { wanted, only, error_text } = self.0;
        let found = wanted.iter().copied().find(|member| member.name() == name);
        if found.is_none() && only {
            let allowed: Vec<_> = wanted.iter().map(|member| member.name()).collect();
            error_text.replace(Some(format!("unknown member {name:.60}; allowed are {}", allowed.join(", "))));
            return Err(E::custom(""));
        }
        Ok(found)
    }
}

/// Reads a member's value: null, or a value of its type.
struct ValueOf(ValueType);

impl<'de> DeserializeSeed<'de> for ValueOf {
    type Value = Option<Value<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ValueOf {
    fn of<'de, E: serde::de::Error>(&self, kind: ValueType, value: Value<'de>) -> Result<Option<Value<'de>>, E> {
        if self.0 == kind {
            Ok(Some(value))
        } else {
            Err(E::custom(""))
        }
    }
}

impl<'de> Visitor<'de> for ValueOf {
    type Value = Option<Value<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.in_words())
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        self.of(ValueType::Text, Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.of(ValueType::Text, Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.of(ValueType::Number, Value::Number(number))
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        self.of(ValueType::Flag, Value::Flag(flag))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads an array of objects.
struct List<'w, F> {
    object: Object<'w>,
    max: usize,
    take: F,
}

impl<'de, T, F: FnMut(Members<'de>) -> Result<T, String>> DeserializeSeed<'de> for List<'_, F> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T, F: FnMut(Members<'de>) -> Result<T, String>> Visitor<'de> for List<'_, F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let error_text = self.object.error_text;
        loop {
            let number = items.len() + 1;
            let members = match seq.next_element_seed(self.object) {
                Ok(Some(members)) => members,
                Ok(None) => return Ok(items),
                Err(error) => {
                    let what = error_text.take().unwrap_or_else(|| "an object is expected".into());
                    error_text.replace(Some(format!("message {number}: {what}")));
                    return Err(error);
                }
            };
            // A message beyond the limit is refused as soon as it is read. A body of many small messages would take
            // many times its size in memory.
            let taken = if items.len() == self.max {
                Err(format!("a batch has at most {} messages", self.max))
            } else {
                (self.take)(members).map_err(|what| format!("message {number}: {what}"))
            };
            items.push(taken.map_err(|what| {
                error_text.replace(Some(what));
                A::Error::custom("")
            })?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Member::{Base64, Channel, Data, Last};
    use super::*;

    #[test]
    fn errors_are_in_our_own_words() {
        let wanted = [Channel, Data, Last, Base64];
        for (text, told) in [
            (r#"{"channel":7}"#, "channel must be a text"),
            (r#"{"channel":["a"]}"#, "channel must be a text"),
            (r#"{"last":-1}"#, "last must be a whole number"),
            (r#"{"last":1.5}"#, "last must be a whole number"),
            (r#"{"base64":"true"}"#, "base64 must be true or false"),
            (r#"{"data":"a","data":"b"}"#, "data is given twice"),
            ("[]", "an object is expected"),
            ("7", "an object is expected"),
            (r#"{"data":"a"#, "not valid JSON, or nested too deep, at line 1, column 10"),
            ("{} {}", "not valid JSON, or nested too deep, at line 1, column 4"),
        ] {
            let result = read(text.as_bytes(), &wanted).map(|_| ());
            assert_eq!(result.err().unwrap_or_default(), told, "{text}");
        }
        let mut good = read(br#" {"channel":"a\u0041","data":null,"x":[{"channel":7}],"last":3}"#, &wanted).unwrap();
        assert_eq!((good.text(Channel).as_deref(), good.number(Last)), (Some("aA"), Some(3)));
        assert_eq!(good.needed(Data).unwrap_err(), "data is missing");
    }

    #[test]
    fn an_error_in_a_list_names_the_message() {
        let take = |mut members: Members<'_>| members.needed(Data).map(|data| data.into_owned());
        let list = |text: &str| read_list(text.as_bytes(), &[Data, Last], 2, take);
        assert_eq!(list(r#"[{"data":"a"},{"data":"b"}]"#).unwrap(), ["a", "b"]);
        assert_eq!(list("[]").unwrap(), [""; 0]);
        for (text, told) in [
            ("{}", "an array of objects is expected"),
            ("[7]", "message 1: an object is expected"),
            (r#"[{"data":"a"},{}]"#, "message 2: data is missing"),
            (r#"[{"data":"a","dta":1}]"#, "message 1: unknown member dta; allowed are data, last"),
            (r#"[{"data":1}]"#, "message 1: data must be a text"),
            (r#"[{"data":"a"},{"data":"a"},{"data":"a"}]"#, "a batch has at most 2 messages"),
            (r#"[{"data":"a"}"#, "not valid JSON, or nested too deep, at line 1, column 13"),
        ] {
            assert_eq!(list(text).unwrap_err(), told, "{text}");
        }
    }
}
