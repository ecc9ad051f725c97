//! Command lines as getopt and BitTornado read them, in the one form that argh and our own loops read: a word for an option,
//! the next for its value.

/// How to read a command's words.
pub struct Grammar {
    /// Short options that take a value, as in getopt's string without the colons.
    pub valued: &'static str,
    /// Long options (with dashes, without the leading two) that take a value.
    pub valued_long: &'static [&'static str],
    /// Options of which each occurrence counts; of all others the last one wins.
    pub repeated: &'static [&'static str],
    /// Exit code for a wrong command line.
    pub usage_code: u8,
}

/// Rewrites `args` into the forms that argh reads; of repeated options the last stays.
pub fn normalise(grammar: &Grammar, args: &[String]) -> Vec<String> {
    normalised(grammar, args).concat()
}

/// Does the work of [`normalise`], and keeps each option together with its value.
pub fn normalised(grammar: &Grammar, args: &[String]) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            found.push(std::iter::once(word).chain(words.by_ref()).cloned().collect());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name.replace('_', "-"), Some(value.to_owned())),
                None => (long.replace('_', "-"), None),
            };
            let value =
                value.or_else(|| grammar.valued_long.contains(&name.as_str()).then(|| words.next().cloned()).flatten());
            found.push(std::iter::once(format!("--{name}")).chain(value).collect());
        } else if word.len() > 1 && word.starts_with('-') {
            let mut letters = word[1..].chars();
            while let Some(letter) = letters.next() {
                let mut group = vec![format!("-{letter}")];
                if grammar.valued.contains(letter) {
                    let attached = letters.as_str();
                    group.extend(if attached.is_empty() { words.next().cloned() } else { Some(attached.to_owned()) });
                    letters = "".chars();
                }
                found.push(group);
            }
        } else {
            found.push(vec![word.clone()]);
        }
    }
    let last_wins = |at: usize, group: &[String]| {
        let name = group[0].as_str();
        !name.starts_with('-')
            || name == "--"
            || grammar.repeated.contains(&name.trim_start_matches('-'))
            || !found[at + 1..].iter().any(|later| later[0] == name)
    };
    found.iter().enumerate().filter(|(at, group)| last_wins(*at, group)).map(|(_, group)| group.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar =
        Grammar { valued: "ps", valued_long: &["port", "parse-dir-interval"], repeated: &["v"], usage_code: 1 };

    fn read(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        normalise(&GRAMMAR, &words).join(" ")
    }

    #[test]
    fn getopt_forms_become_argh_forms() {
        assert_eq!(read("-p16 -cv x"), "-p 16 -c -v x");
        assert_eq!(read("-cp 16 x"), "-c -p 16 x");
        assert_eq!(read("x -s out"), "x -s out");
    }

    #[test]
    fn long_forms_lose_underscores_and_equals_signs() {
        assert_eq!(read("--parse_dir_interval=5 d"), "--parse-dir-interval 5 d");
        assert_eq!(read("--parse_dir_interval 5 d"), "--parse-dir-interval 5 d");
    }

    #[test]
    fn the_last_of_two_wins_unless_each_counts() {
        assert_eq!(read("--port 1 --port 2"), "--port 2");
        assert_eq!(read("-p1 -p 2 -v -v"), "-p 2 -v -v");
    }

    #[test]
    fn a_value_is_never_read_as_an_option() {
        assert_eq!(read("-p -s x"), "-p -s x");
        assert_eq!(read("-- -p16"), "-- -p16");
    }
}
