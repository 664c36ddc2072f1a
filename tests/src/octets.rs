//! A notation for messages in tables, close to how RFCs print them.

/// The octets of a text: pairs of hexadecimal digits, `'web'` for a label with its length before
/// it, and `.` for the root label; blanks and `|` are for the reader.
///
/// # Panics
/// If the text is not in this notation.
pub fn octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\'' => {
                let label = rest[1..].split('\'').next().expect("a label");
                octets.push(label.len() as u8);
                octets.extend(label.as_bytes());
                label.len() + 2
            }
            '.' => {
                octets.push(0);
                1
            }
            ' ' | '|' | '\n' => 1,
            _ => {
                let pair = rest.get(..2).expect("two digits");
                octets.push(u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{rest:?}")));
                2
            }
        };
        rest = rest.get(taken..).expect("a closing quote");
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_labels_and_the_root() {
        assert_eq!(octets("c00c | 'web' . 0001"), b"\xc0\x0c\x03web\0\0\x01");
    }
}
