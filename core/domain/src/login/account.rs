//! The parts of an account that its user chooses: user name, mail address, first and last name.
//!
//! A user name has 1 to 150 letters, digits and `@.+-_`, all of them visible. Names that look alike are one name
//! ([`look_alike`]): whoever has the name `علیرضا` logs in as `عليرضا` too, and nobody else can register it. Names of
//! the form `G<group>-...`, which the login by code makes, are refused. Choosing one would block the owner of that
//! number, and "already exists" would reveal which numbers have accounts.

pub use chelseru_store::Rights;
use chelseru_store::chat::FileId;
use chelseru_store::{Timestamp, User};
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup, Script};
use sha2::{Digest, Sha256};

use crate::PhoneNumber;
use crate::ids::UserId;
use crate::login::group::Group;
use crate::text::{is_unseen, seen};

pub const USERNAME_CHARS_MAX: usize = 150;
/// Bytes of what a name is found by (see [`key_by_look`]): what 150 characters have at most.
const LOOK_BYTES_MAX: usize = 4 * USERNAME_CHARS_MAX;
pub const NAME_CHARS_MAX: usize = 150;
/// RFC 5321, section 4.5.3.1.3: a path has at most 256 characters, including its brackets.
pub const EMAIL_CHARS_MAX: usize = 254;

/// Why a user name is refused. The texts are the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsernameFault {
    #[error(
        "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters."
    )]
    Invalid,
    /// Also for names that the login by code makes, whether or not an account has one.
    #[error("A user with that username already exists.")]
    Taken,
}

/// # Errors
///
/// [`UsernameFault`]. Does not look whether an account has the name.
pub fn username_check(name: &str) -> Result<(), UsernameFault> {
    // Unicode calls some characters letters that show nothing, and some vowel signs, which need another letter.
    let fits = |character: char| {
        (character.is_alphanumeric() && !is_unseen(character)) || "@.+-_".contains(character)
    };
    // One character may look like eighteen (`U+FDFA`).
    let length_fits = |text: &str| (1..=USERNAME_CHARS_MAX).contains(&text.chars().count());
    let length_fits = length_fits(name) && length_fits(&look_alike(name));
    if !length_fits || !name.chars().all(fits) || name.chars().all(is_mark) {
        return Err(UsernameFault::Invalid);
    }
    if is_reserved(name) {
        return Err(UsernameFault::Taken);
    }
    Ok(())
}

/// `G`, digits, `-`, in any case and any script: people cannot tell them apart.
fn is_reserved(name: &str) -> bool {
    let look = look_alike(name);
    let Some(rest) = look.strip_prefix('g') else { return false };
    let group = rest.trim_start_matches(|character: char| character.is_numeric());
    group.len() < rest.len() && group.starts_with('-')
}

/// Whether a character is written over, under or around another one.
fn is_mark(character: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(character))
}

/// Whether names with and without a mark are one: accents that no letter is composed with, among them the Greek iota
/// below (U+0345), and the signs of scripts that are mostly written without them. Vowel signs of other scripts make
/// another word, for example those of Thai and Devanagari, so they count.
fn is_optional_mark(character: char) -> bool {
    let script = CodePointMapData::<Script>::new().get(character);
    // Accents have the script of their letter, which Unicode calls inherited.
    let optional = [Script::Inherited, Script::Arabic, Script::Hebrew, Script::Syriac].contains(&script);
    optional && is_mark(character)
}

/// The user name of a number's account in a group, as in the original.
#[must_use]
pub fn name_of_identity(group: Group, number: &PhoneNumber) -> String {
    format!("G{group}-{}", number.local())
}

/// Reads a name that [`name_of_identity`] made.
#[must_use]
pub fn identity_of_name(name: &str) -> Option<(Group, PhoneNumber)> {
    let (group, number) = name.strip_prefix('G')?.split_once('-')?;
    let identity = (Group::parse(group).ok()?, PhoneNumber::parse(number).ok()?);
    (name_of_identity(identity.0, &identity.1) == name).then_some(identity)
}

/// How a user name looks to people, without what they cannot see or do not type alike: case, width and composition,
/// Arabic and Persian forms of letters and digits, kashida, vowel signs, invisible characters. Names with one look are
/// one name for whoever logs in or registers.
#[must_use]
pub fn look_alike(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let form = |character: char| match character {
        'ي' | 'ى' | 'ئ' => 'ی',
        'ك' => 'ک',
        'ة' | 'ۀ' | 'ۂ' | 'ە' => 'ه',
        'أ' | 'إ' | 'آ' | 'ٱ' => 'ا',
        'ؤ' => 'و',
        other => crate::phone::ascii_digit(other).unwrap_or(other),
    };
    // Vowel signs and kashida are no letters; what is left of decomposed letters is composed first.
    let seen = |character: &char| {
        let letter = character.is_alphanumeric() && !is_unseen(*character) && !is_optional_mark(*character);
        character.is_ascii() || (letter && *character != '\u{640}')
    };
    // Upper case first: it writes `ß` as `SS` and both forms of sigma as one.
    let folded = ComposingNormalizerBorrowed::new_nfkc().normalize(name);
    let folded: String = folded
        .chars()
        .filter(seen)
        .map(form)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    ComposingNormalizerBorrowed::new_nfkc().normalize(&folded).into_owned()
}

/// What an account is found by whose name looks like this one: [`look_alike`], or its beginning and its hash when it is
/// longer than what a name that can be registered looks like. An imported name may; stores bound the length of keys.
#[must_use]
pub fn key_by_look(name: &str) -> String {
    let mut look = look_alike(name);
    if look.len() > LOOK_BYTES_MAX {
        let hash = Sha256::digest(&look);
        look.truncate(look.floor_char_boundary(LOOK_BYTES_MAX - 2 * hash.len()));
        look.extend(hash.iter().map(|byte| format!("{byte:02x}")));
    }
    look
}

/// Whether a text looks like a mail address. Finds typing errors; only a sent message shows whether it exists.
#[must_use]
pub fn email_fits(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|character| character.is_alphanumeric() || character == '-')
    };
    let sign = |character: char| character.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(character);
    text.chars().count() <= EMAIL_CHARS_MAX
        && (1..=64).contains(&local.len())
        && local.chars().all(sign)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label_fits)
}

/// An account as its user and operators see it. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    pub id: UserId,
    pub username: String,
    /// In local form (`0912...`). Empty for an account without a number.
    pub mobile_number: String,
    pub group: u32,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    pub active: bool,
    pub staff: bool,
    pub superuser: bool,
    pub has_password: bool,
    pub avatar: Option<FileId>,
    pub date_joined: Timestamp,
    pub last_login: Option<Timestamp>,
}

impl UserView {
    #[must_use]
    pub fn rights(&self) -> Rights {
        match (self.superuser, self.staff) {
            (true, _) => Rights::Superuser,
            (false, true) => Rights::Staff,
            (false, false) => Rights::None,
        }
    }

    pub(crate) fn new(user: User, has_password: bool) -> Self {
        let local = crate::PhoneNumber::parse(&user.number).map(|number| number.local());
        UserView {
            id: user.id,
            username: seen(user.username),
            mobile_number: local.unwrap_or(user.number),
            group: user.group,
            first_name: seen(user.first_name),
            last_name: seen(user.last_name),
            email: user.email,
            active: user.active,
            staff: user.staff,
            superuser: user.superuser,
            has_password,
            avatar: user.avatar.map(|avatar| avatar.file),
            date_joined: user.created_at,
            last_login: user.last_login_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_letters_digits_and_a_few_signs() {
        for name in ["alice", "a", "A.b+c-d_e@f", "علی", "G0", "g-0", "Gx-1", "0912", &"u".repeat(150)] {
            assert_eq!(username_check(name), Ok(()), "{name}");
        }
        for name in ["", "\u{640}\u{640}", "a b!", "a\u{0}", "a/b", "a\u{200f}b", &"u".repeat(151)] {
            assert_eq!(username_check(name), Err(UsernameFault::Invalid), "{name}");
        }
    }

    #[test]
    fn names_of_the_login_by_code_cannot_be_chosen() {
        for name in
            ["G0-09120000004", "G12-x", "g0-09120000004", "G0-", "G۰-09120000004", "\u{ff27}0-09120000004"]
        {
            assert_eq!(username_check(name), Err(UsernameFault::Taken), "{name}");
        }
    }

    #[test]
    fn letters_that_show_nothing_are_refused() {
        for unseen in ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{13441}', '\u{13442}'] {
            for name in [format!("victim_x7{unseen}"), unseen.to_string(), format!("G{unseen}0-09120000005")]
            {
                assert_eq!(username_check(&name), Err(UsernameFault::Invalid), "{name:?}");
            }
            assert_eq!(look_alike(&format!("victim{unseen}_x7")), "victim_x7", "{unseen:?}");
            assert!(is_reserved(&format!("G{unseen}0-09120000005")), "{unseen:?}");
        }
        // Every other letter that Unicode lets programs ignore.
        let letters = ('\u{80}'..=char::MAX).filter(|character| character.is_alphanumeric());
        for unseen in letters.filter(|character| is_unseen(*character)) {
            assert_eq!(username_check(&format!("a{unseen}")), Err(UsernameFault::Invalid), "{unseen:?}");
        }
    }

    #[test]
    fn marks_alone_are_no_name() {
        for name in
            ["\u{345}", "\u{5b0}\u{5b7}", "\u{947}", "\u{93e}\u{93f}", "\u{e38}", "\u{730}", "\u{64e}"]
        {
            assert_eq!(username_check(name), Err(UsernameFault::Invalid), "{name:?}");
        }
        for name in ["\u{5e9}\u{5c1}\u{5b8}", "\u{915}\u{947}", "\u{e01}\u{e38}", "_\u{947}"] {
            assert_eq!(username_check(name), Ok(()), "{name:?}");
        }
        for name in ["G\u{5b0}0-09120000005", "G\u{345}0-09120000005", "G0\u{5bd}-"] {
            assert_eq!(username_check(name), Err(UsernameFault::Taken), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_the_login_by_code_says_whose_it_is() {
        for (group, number) in [("0", "09120000004"), ("17", "09999999999")] {
            let identity = (Group::parse(group).unwrap(), PhoneNumber::parse(number).unwrap());
            let name = name_of_identity(identity.0, &identity.1);
            assert_eq!(name, format!("G{group}-{number}"));
            assert_eq!(identity_of_name(&name), Some(identity));
        }
        for name in [
            "alice",
            "G0-0912",
            "g0-09120000004",
            "G0-+989120000004",
            "G00-09120000004",
            "G0-09120000004-2",
            "G-",
        ] {
            assert_eq!(identity_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_look_alike_are_one() {
        for (one, other) in [
            ("علیرضا", "عليرضا"),
            ("Ali", "aLI"),
            ("کاوه", "كاوه"),
            ("کــاوه", "کاوه"),
            ("مُحَمَّد", "محمد"),
            ("می\u{200c}رود", "میرود"),
            ("ali۱۲", "ali12"),
            ("ali١٢", "ali12"),
            ("\u{ff21}li", "ali"),
            ("Straße", "STRASSE"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("ΣΟΦΟΣ", "σοφος"),
            ("σοφος", "σοφοσ"),
            ("آرش", "ا\u{653}رش"),
            ("كاظم", "کاظم"),
            ("ａｌｉ", "ali"),
            ("victim_x7\u{345}", "victim_x7"),
            ("victim\u{5b0}_x7", "victim_x7"),
            ("\u{5e9}\u{5c1}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            ("\u{71d}\u{730}", "\u{71d}"),
            ("a\u{364}", "a"),
            ("\u{3b1}\u{345}", "\u{1fb3}"),
        ] {
            assert_eq!(look_alike(one), look_alike(other), "{one} {other}");
            assert_eq!(look_alike(&look_alike(one)), look_alike(one), "{one}");
        }
        for (one, other) in [("ali", "alia"), ("a.li", "ali"), ("café", "cafe"), ("علی", "علا")]
            .into_iter()
            .chain([("\u{915}\u{947}", "\u{915}"), ("\u{e01}\u{e38}", "\u{e01}\u{e39}")])
        {
            assert_ne!(look_alike(one), look_alike(other), "{one} {other}");
        }
    }

    #[test]
    fn a_name_that_looks_longer_than_it_may_be_is_refused_and_found_by_a_short_key() {
        for name in ["\u{fdfa}".repeat(150), "\u{fdfa}".repeat(9), "\u{132}".repeat(76)] {
            assert_eq!(username_check(&name), Err(UsernameFault::Invalid), "{name}");
        }
        for name in ["\u{fdfa}".repeat(8), "\u{132}".repeat(75), "\u{20000}".repeat(150), "a".repeat(150)] {
            assert_eq!(username_check(&name), Ok(()), "{name}");
            assert_eq!(key_by_look(&name), look_alike(&name));
        }
        let long = |last: &str| format!("{}{last}", "\u{fdfa}".repeat(149));
        let keys = ["x", "y", "\u{fdfa}"].map(|last| key_by_look(&long(last)));
        assert!(keys.iter().all(|key| (500..=LOOK_BYTES_MAX).contains(&key.len())), "{keys:?}");
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        assert_eq!(keys[0], key_by_look(&long("X")));
    }

    #[test]
    fn mail_addresses_are_recognised() {
        let longest = format!("{}@{}.example", "l".repeat(64), "d".repeat(63));
        for text in ["a@b.co", "x.y+z@mail.example.com", "علی@نمونه.ایران", &longest] {
            assert!(email_fits(text), "{text}");
        }
        for text in
            ["", "nope", "@b.co", "a@", "a@b", "a b@c.de", "a@b..co", ".a@b.co", "a@-b.co", "a@b.co\n"]
        {
            assert!(!email_fits(text), "{text}");
        }
        assert!(!email_fits(&format!("l{longest}")));
    }
}
