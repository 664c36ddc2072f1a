//! One or several: most names have one RRset and most RRsets one record, and these need no memory of
//! their own.

use std::ops::Deref;
use std::slice;

/// More are made room for step by step.
const MANY: usize = 64;

/// A slice that owns its elements. If there is one, it lies in here.
#[derive(Debug, Clone)]
pub(super) enum Few<T> {
    One(T),
    Several(Box<[T]>),
}

impl<T> Few<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(all) => all.into_vec(),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Several(Box::default())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => slice::from_ref(one),
            Self::Several(all) => all,
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut all: Vec<T>) -> Self {
        match all.pop() {
            Some(one) if all.is_empty() => Self::One(one),
            last => {
                all.extend(last);
                Self::Several(all.into_boxed_slice())
            }
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut rest = all.into_iter();
        let Some(first) = rest.next() else {
            return Self::default();
        };
        let Some(second) = rest.next() else {
            return Self::One(first);
        };
        // Most often all that there may be: then nothing is moved again.
        let more = rest.size_hint().1.unwrap_or_default().min(MANY);
        let mut several = Vec::with_capacity(2 + more);
        several.extend([first, second]);
        several.extend(rest);
        Self::Several(several.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_kept_in_order() {
        for count in 0..5u8 {
            let all: Vec<u8> = (0..count).collect();
            let few: Few<u8> = all.iter().copied().collect();
            assert_eq!(*few, *all);
            assert_eq!(matches!(few, Few::One(_)), count == 1);
            assert_eq!(few.into_vec(), all);
        }
        assert!(Few::<u8>::default().is_empty());
    }
}
