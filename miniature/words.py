"""Words that the small planner's synthetic stories are made of."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _split(
    """Rosa Bo Mia Finn Zara Otto Lena Max Ida Hugo Nora Leo Ruby Sam Ella Ben Maya Tom Ivy Jack Ann
    Oscar Lily Felix Emma Noah Clara Theo Anna Paul Alice Henry Vera Luca Nina Omar Priya Kenji Mei
    Ravi Yuki Amara Kofi Ines Pablo Freya Lars Sofia Marco Greta Emil Tara Jonas Hanna Rufus Pip
    Dot Gus Olive Basil Hazel Rex Luna Milo Stella Bruno Coco Ziggy Pearl Jasper Wanda Igor Bella
    Dexter Fern Hector Juno Kit Lola Mabel Ned Opal Quinn Rory Sky Toby Una Violet Walt Xena Yara
    Zeno Agnes Boris Cleo Dora Edgar Flora Gwen Harold Iris Jim Kate Liam Molly Nick Olga Pete Rita
    Sid Tina Ursula Victor Wendy Xavier Yvonne Zack Captain Shadow Whiskers Biscuit Sparky Pebble"""
)
TITLES = _split("Captain Doctor Princess Old Little Mr. Mrs. Sir Lady King Aunt Uncle Big Tiny")
SYLLABLES = _split(
    """ba be bi bo bu ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu ra re ri ro ru sa
    se si so su ta te ti to tu va ve vi vo vu za ze zi zo zu fa fe fi fo fu ga go gu da de di do du
    ja jo ju pa pe pi po pu ha he hi ho hu wa we wi sha shi sho chi cha tha thi bel dor fin gal han
    jor kel lan mor nor pan quil ron sil tan ven wil xan yor zel bra cre dri flo gri kro pla sto tri
    ya yo ix ax or an en in on el al ia io eo ar ur"""
)
LETTERS = (
    "αβγδεζηθικλμνοπρστυφχψω",
    "абвгдежзиклмнопрстуфхцчшя",
    "花子太郎美咲大翔陽菜王小明",
    "éèêäöüñçåøíóúšžł",
)
ADJECTIVES = _split(
    """old young little tiny big brave lost golden silver red blue green purple magic shiny broken
    sleepy hungry lonely happy sad grumpy curious clever secret hidden frozen ancient missing last
    first strange wild gentle noisy silent royal rusty round invisible paper wooden forgotten"""
)
THINGS = _split(
    """hat map key letter lantern crown kite balloon clock book cake umbrella shoe ring bell drum
    violin feather stone star moon rocket boat bicycle garden egg treasure mirror scarf teapot
    button coin compass apple pumpkin snowman candle photograph whistle ticket suitcase telescope
    flower birthday party picnic song parade storm rainbow shadow dream secret puzzle sandwich"""
)
ODD_PHRASES = (
    *("girl witch", "boy wizard", "old sailor", "postwoman", "farmer", "dragon", "unicorn", "fox"),
    *(
        "dog",
        "horse",
        "elephant",
        "superhero",
        "ninja",
        "vampire",
        "fairy",
        "elf",
        "dwarf",
        "mouse",
    ),
    *(
        "snowman",
        "teacher",
        "doctor",
        "painter",
        "singer",
        "boxer",
        "grandmother",
        "penguin",
        "owl",
    ),
    *("little girl", "tall man", "baby dinosaur", "ice giant", "police officer", "fire fighter"),
)
ODD_PLACES = (
    *("harbour", "old town", "village street", "library", "train station", "market", "mountain"),
    *("swamp", "school", "space station", "ballroom", "attic", "farm", "river bank", "rooftop"),
    *("museum", "circus tent", "lighthouse", "kitchen garden", "ice palace", "jungle", "moon"),
)
ODD_MOTIONS = (
    *("juggling", "painting", "reading", "singing", "laughing", "pointing", "swimming", "riding"),
    *("cooking", "digging", "fishing", "climbing", "hopping", "marching", "sneezing", "yawning"),
    *("saluting", "drumming", "hiding", "sweeping", "writing", "jogging", "gliding", "crying"),
)
TOPICS = (
    "the {phrase}'s day",
    "a day in the life of {name}",
    "{name}'s day",
    "a day with {name} the {phrase}",
    "{name} and the {thing}",
    "the {phrase} and the {thing}",
    "{name} looks for the {thing}",
    "{name} the {phrase} finds a {thing}",
    "the {thing}",
    "the secret of the {thing}",
    "{name} and {other}",
    "{name} meets {other}",
    "{name} and {other} look for the {thing}",
    "how {name} lost the {thing}",
    "the night of the {thing}",
    "{name} visits the {place}",
    "a trip to the {place}",
    "{name} and {other} in the {place}",
    "the {phrase} in the {place}",
    "morning in the {place}",
    "the {thing} in the {place}",
    "{name} learns something new",
    "{name} cannot sleep",
    "{name} has a birthday",
    "the longest day of {name}",
    "a holiday for {name}",
    "the {phrase} who wanted a {thing}",
    "once upon a time there was a {phrase} called {name}",
    "an adventure of {name} and {other}",
    "{name}, {other} and the {thing}",
    "the great race",
    "friends",
    "a quiet day",
    "{name} saves the day",
    "the {thing} that nobody wanted",
    "why the {phrase} has a {thing}",
    "a short film about a {thing}",
    "{name} goes home",
    "the {phrase} is back",
    "make a funny film about {name} the {phrase} and a {thing}",
)
FIRST = (
    "{name} is {motion}{manner} in the {place}.",
    "{name} is {motion} in the {place}{manner}.",
    "in the {place}, {name} is {motion}{manner}.",
    "here in the {place}, {name} is {motion}{manner}.",
    "it is early, and {name} is {motion} in the {place}{manner}.",
    "deep in the {place}, {name} is {motion}{manner}.",
    "today {name} is {motion}{manner} in the {place}.",
    "at last {name} is {motion}{manner} in the {place}.",
    "once more {name} is {motion} in the {place}{manner}.",
)
NEXT = (
    "then {name} is {motion}{manner}.",
    "now {name} is {motion}{manner}.",
    "soon {name} is {motion}{manner}.",
    "a moment later {name} is {motion}{manner}.",
    "after that, {name} is {motion}{manner}.",
    "and suddenly {name} is {motion}{manner}.",
    "in the end {name} is {motion}{manner}.",
    "before long {name} is {motion}{manner}.",
)
NEXT_OTHER = (
    "nearby, {name} is {motion}{manner}.",
    "{name} is {motion}{manner} close by.",
    "at the same time {name} is {motion}{manner}.",
    "meanwhile {name} is {motion}{manner}.",
    "a few steps away, {name} is {motion}{manner}.",
    "not far off, {name} is {motion}{manner}.",
)
MANNERS = (
    *("happily", "slowly", "quietly", "all alone", "with a smile", "as always", "with great care"),
    *("full of hope", "without a word", "like never before", "just for fun", "with all might"),
    *("under a wide sky", "with a deep breath", "as if in a dream", "for everyone to see"),
)
CLOSINGS = (
    "it is a good day.",
    "the air is warm and still.",
    "nobody else is there.",
    "what a day this will be.",
    "everything is quiet.",
    "there is so much to see.",
    "the world seems bigger than before.",
    "this is how it all begins.",
    "there is no reason to hurry.",
    "the light is beautiful.",
    "somewhere a bird calls.",
    "it feels like home.",
    "all is well again.",
    "the {place} has never looked so fine.",
    "the {place} is full of sounds.",
    "the {thing} must be somewhere near.",
    "nobody has seen the {thing} yet.",
    "and there is the {thing}.",
    "all because of the {thing}.",
    "the {thing} is not forgotten.",
)
EXAM_TOPICS = (
    "The lighthouse keeper's last shift",
    "A sandwich for the king",
    "Who painted the wall?",
    "The day the wind stopped",
    "Lost in the museum",
    "An invitation to the ball",
    "The smallest circus on earth",
    "First snow",
    "Something is wrong with the radio",
    "How to catch a cloud",
    "The longest queue",
    "A love story in three acts",
    "Midsummer",
    "Nobody knows where the goat is",
    "The gold under the bridge",
    "Robots need holidays too",
    "The pirate's day",
    "A rainy Tuesday",
    "The mermaid who was afraid of water",
    "Training for the championship",
    "An astronaut comes home",
    "The ghost wants a friend",
    "Two rivals and one trophy",
    "What the panda dreamt",
    "A morning routine",
    "The queen is bored",
    "Bring back the sun!",
    "The clown's new act",
    "Operation pancake",
    "The knight, the dragon's tooth and a very long staircase",
    "a sad film about saying goodbye",
    "comedy: everything goes wrong at the wedding",
    "The last train leaves at nine",
    "How the cat got its boots",
    "An alien's guide to the weekend",
    "Twelve minutes before midnight",
    "The chef's secret ingredient",
    "Winter olympics of the forest animals",
    "A message in a bottle",
    "The wizard forgot the magic word",
)
"""Topics of the exam: none is made from `TOPICS`."""
