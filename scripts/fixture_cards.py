"""The texts of the recipe photos and the degradation of each: data for ``make_fixtures.py``.

The recipes are written for this project. Every line of text is one row on the photo, in the
reading order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Cell = tuple[str, str]


@dataclass(frozen=True)
class Recipe:
    """The text of one card. Column layouts and forms interpret the fields differently."""

    title: str
    note: str
    items: tuple[str, ...]
    steps: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True)
class Camera:
    """How a card becomes a photo. Lengths in pixels, angles in degrees clockwise.

    ``grain`` and ``noise`` are standard deviations of brightness out of 255, ``light`` is the
    factor that all brightness is multiplied with, ``keystone`` the share of the width by which
    the far edge is shorter, and ``margin`` how much table is seen round the card.
    """

    grain: float = 2.0
    noise: float = 0.0
    blur: float = 0.0
    light: float = 1.0
    gradient: float = 0.12
    turn: int = 0
    keystone: float = 0.0
    margin: int = 0
    exif_orientation: int = 1


@dataclass(frozen=True)
class Card:
    """One fixture: text, type face, photo and the file it is stored in."""

    name: str
    recipe: Recipe
    font: str
    tags: tuple[str, ...]
    layout: Literal["card", "columns", "form"] = "card"
    width: int = 1100
    camera: Camera = field(default_factory=Camera)
    suffix: Literal["jpg", "png", "tif", "pdf"] = "jpg"
    quality: int = 62
    min_word_recall: float = 0.95
    unread: tuple[str, ...] = ()


CARDS: tuple[Card, ...] = (
    Card(
        "clean-print",
        Recipe(
            "Lemon Oat Biscuits",
            "Makes 24 biscuits, 25 minutes",
            (
                "150 g rolled oats",
                "120 g plain flour",
                "100 g soft butter",
                "80 g brown sugar",
                "1 lemon, zest and juice",
                "1 teaspoon baking powder",
            ),
            (
                "Beat the butter with the sugar until pale.",
                "Stir in zest, juice, oats, flour and baking powder.",
                "Roll into 24 balls and press them flat.",
                "Bake at 180 degrees for 12 minutes.",
            ),
        ),
        "lato",
        ("printed", "clean"),
        camera=Camera(grain=0, gradient=0),
        suffix="png",
    ),
    Card(
        "noisy-print",
        Recipe(
            "Tomato and Lentil Soup",
            "Serves 6, 40 minutes",
            (
                "250 g red lentils",
                "800 g canned tomatoes",
                "1 litre vegetable stock",
                "2 onions, chopped",
                "3 cloves garlic, sliced",
                "1 teaspoon ground cumin",
            ),
            (
                "Soften the onions and garlic in olive oil.",
                "Add cumin, lentils, tomatoes and stock.",
                "Simmer gently for 30 minutes.",
                "Blend half of the soup and season with salt.",
            ),
        ),
        "lora",
        ("printed", "noisy"),
        camera=Camera(noise=15),
        quality=45,
    ),
    Card(
        "blurred-print",
        Recipe(
            "Buttermilk Pancakes",
            "Serves 4, 20 minutes",
            (
                "200 g plain flour",
                "300 ml buttermilk",
                "2 eggs",
                "30 g melted butter",
                "1 teaspoon baking soda",
            ),
            (
                "Whisk the eggs with buttermilk and butter.",
                "Fold in the flour and baking soda.",
                "Rest the batter for ten minutes.",
                "Fry small ladles on a medium heat and turn once.",
            ),
        ),
        "open-sans",
        ("printed", "blurred"),
        camera=Camera(blur=2.0),
        min_word_recall=0.9,
    ),
    Card(
        "rotated-90",
        Recipe(
            "Roasted Carrot Hummus",
            "One large bowl, 45 minutes",
            (
                "500 g carrots",
                "1 can chickpeas, drained",
                "3 tablespoons tahini",
                "1 orange, juice only",
                "2 tablespoons olive oil",
            ),
            (
                "Roast the carrots with oil until their edges brown.",
                "Blend them with chickpeas, tahini and juice.",
                "Loosen with cold water, then add salt.",
                "Serve with warm flatbread.",
            ),
        ),
        "lato",
        ("printed", "rotated"),
        camera=Camera(turn=90),
    ),
    Card(
        "rotated-180",
        Recipe(
            "Weeknight Fried Rice",
            "Serves 3, 15 minutes",
            (
                "400 g cold cooked rice",
                "2 eggs, beaten",
                "150 g frozen peas",
                "4 spring onions",
                "2 tablespoons soy sauce",
            ),
            (
                "Heat a wok until it smokes and add oil.",
                "Scramble the eggs and push them aside.",
                "Fry the rice with peas and spring onions.",
                "Finish with soy sauce and a little pepper.",
            ),
        ),
        "lora",
        ("printed", "rotated"),
        camera=Camera(turn=180),
    ),
    Card(
        "rotated-270",
        Recipe(
            "Potato and Leek Gratin",
            "Serves 5, one hour",
            (
                "900 g waxy potatoes",
                "2 leeks, washed and sliced",
                "300 ml cream",
                "200 ml milk",
                "120 g grated cheese",
            ),
            (
                "Slice the potatoes as thin as a coin.",
                "Layer them with the leeks in a buttered dish.",
                "Pour over cream and milk, then scatter the cheese.",
                "Bake at 190 degrees until golden.",
            ),
        ),
        "open-sans",
        ("printed", "rotated"),
        camera=Camera(turn=270),
    ),
    Card(
        "skewed-5",
        Recipe(
            "Cinnamon Apple Crumble",
            "Serves 6, 50 minutes",
            (
                "1 kg cooking apples",
                "60 g sugar",
                "2 teaspoons cinnamon",
                "180 g flour",
                "110 g cold butter",
                "70 g oats",
            ),
            (
                "Peel, core and cut the apples into chunks.",
                "Toss with sugar and cinnamon in a deep dish.",
                "Rub butter into flour and oats for the topping.",
                "Bake for 35 minutes until it bubbles.",
            ),
        ),
        "lora",
        ("printed", "skewed"),
        camera=Camera(turn=5),
    ),
    Card(
        "low-light",
        Recipe(
            "Mushroom Barley Stew",
            "Serves 4, 70 minutes",
            (
                "350 g brown mushrooms",
                "160 g pearl barley",
                "2 carrots, diced",
                "1 stick celery, diced",
                "900 ml beef or mushroom stock",
            ),
            (
                "Brown the mushrooms in two batches.",
                "Sweat carrots and celery in the same pot.",
                "Add barley and stock, cover, and cook slowly.",
                "Stir in parsley before serving.",
            ),
        ),
        "lato",
        ("printed", "low-light"),
        camera=Camera(light=0.26, noise=5, gradient=0.35),
        min_word_recall=0.85,
    ),
    Card(
        "handwriting-round",
        Recipe(
            "Sunday Chicken Pie",
            "serves 6 hungry people",
            (
                "600 g chicken thighs",
                "1 sheet puff pastry",
                "2 leeks and 1 onion",
                "200 ml cream",
                "1 spoon of mustard",
            ),
            (
                "Poach the chicken, keep the broth.",
                "Cook leeks and onion in butter.",
                "Mix with cream, mustard and chicken.",
                "Cover with pastry, bake 30 minutes.",
            ),
        ),
        "kalam",
        ("handwriting",),
        min_word_recall=0.9,
    ),
    Card(
        "handwriting-slanted",
        Recipe(
            "Plum Jam",
            "six small jars",
            (
                "2 kg ripe plums",
                "1 kg sugar",
                "juice of 2 lemons",
                "1 stick of cinnamon",
            ),
            (
                "Stone the plums and cut them small.",
                "Leave with the sugar over night.",
                "Boil with lemon and cinnamon for an hour.",
                "Fill hot into clean jars and close them.",
            ),
        ),
        "caveat",
        ("handwriting",),
        camera=Camera(gradient=0.2),
        min_word_recall=0.85,
    ),
    Card(
        "handwriting-neat",
        Recipe(
            "Green Bean Salad",
            "for the picnic",
            (
                "400 g green beans",
                "1 red onion",
                "10 cherry tomatoes",
                "50 g feta cheese",
                "vinegar and good oil",
            ),
            (
                "Cook the beans four minutes, then cool them.",
                "Slice the onion into thin rings.",
                "Mix everything with oil and vinegar.",
                "Crumble the feta on top.",
            ),
        ),
        "patrick-hand",
        ("handwriting",),
        min_word_recall=0.9,
    ),
    Card(
        "two-columns",
        Recipe(
            "Chickpea Spinach Curry",
            "Serves 4, 30 minutes",
            (
                "Ingredients",
                "2 cans chickpeas",
                "300 g spinach",
                "1 can coconut milk",
                "1 large onion",
                "2 cloves garlic",
                "20 g fresh ginger",
                "1 tablespoon curry powder",
                "1 lime",
            ),
            (
                "Method",
                "Chop onion, garlic and ginger",
                "and fry them until soft.",
                "Add the curry powder and",
                "stir for one minute.",
                "Pour in the coconut milk and",
                "chickpeas, simmer a while.",
                "Wilt the spinach in the sauce",
                "and squeeze in the lime.",
            ),
        ),
        "lato",
        ("printed", "columns"),
        layout="columns",
        width=1400,
    ),
    Card(
        "fractions",
        Recipe(
            "Banana Walnut Loaf",
            "One loaf, 1 1/2 hours",
            (
                "1 1/2 cups plain flour",
                "3/4 cup brown sugar",
                "1/3 cup melted butter",
                "½ cup chopped walnuts",
                "½ teaspoon salt",
                "2 1/4 teaspoons baking powder",
                "3 ripe bananas",
            ),
            (
                "Mash the bananas with butter and sugar.",
                "Fold in flour, baking powder and salt.",
                "Add the walnuts and fill a loaf tin.",
                "Bake at 350 F for 55 minutes.",
            ),
        ),
        "open-sans",
        ("printed", "fractions"),
    ),
    Card(
        "fraction-glyphs",
        Recipe(
            "Ginger Shortbread",
            "Twelve fingers, 40 minutes",
            (
                "¾ cup butter",
                "¼ cup sugar",
                "1½ cups flour",
                "¼ cup rice flour",
                "½ teaspoon ground ginger",
                "¾ teaspoon salt",
            ),
            (
                "Cream the butter and sugar together.",
                "Work in both flours, ginger and salt.",
                "Press into a tin and prick with a fork.",
                "Bake until pale gold, then cut while warm.",
            ),
        ),
        "lato",
        ("printed", "fractions", "unread-glyphs"),
        min_word_recall=0.85,
        unread=("¼", "¾"),
    ),
    Card(
        "accents",
        Recipe(
            "Crème Brûlée",
            "Dessert à la carte, 6 Förmchen",
            (
                "500 ml crème fraîche",
                "6 jaunes d'œufs",
                "100 g Zucker für die Kruste",
                "1 gousse de vanille",
                "piment jalapeño, très peu",
            ),
            (
                "Chauffer la crème avec la vanille.",
                "Mélanger les œufs et le sucre.",
                "Cuire à 110 degrés pendant une heure.",
                "Vor dem Servieren kühl stellen und brûler.",
            ),
        ),
        "open-sans",
        ("printed", "accents"),
    ),
    Card(
        "exif-orientation-6",
        Recipe(
            "Cucumber Yoghurt Dip",
            "Serves 4, 10 minutes",
            (
                "1 cucumber, grated",
                "250 g thick yoghurt",
                "1 clove garlic",
                "10 mint leaves",
                "1 tablespoon olive oil",
            ),
            (
                "Salt the cucumber and squeeze it dry.",
                "Crush the garlic with a pinch of salt.",
                "Stir everything into the yoghurt.",
                "Chill for an hour if there is time.",
            ),
        ),
        "lato",
        ("printed", "exif"),
        camera=Camera(exif_orientation=6),
    ),
    Card(
        "single-page",
        Recipe(
            "Slow Baked Beans",
            "Serves 8, 5 hours",
            (
                "500 g dried white beans",
                "150 g smoked bacon",
                "3 tablespoons molasses",
                "2 tablespoons tomato paste",
                "1 tablespoon mustard powder",
            ),
            (
                "Soak the beans for a night in cold water.",
                "Brown the bacon in a heavy pot.",
                "Add beans, molasses, paste and mustard.",
                "Cover with water and bake at 140 degrees.",
            ),
        ),
        "lora",
        ("printed", "pdf"),
        suffix="pdf",
    ),
    Card(
        "scan",
        Recipe(
            "Spiced Gingerbread",
            "One tray, 55 minutes",
            (
                "350 g plain flour",
                "175 g dark sugar",
                "125 g golden syrup",
                "100 g butter",
                "2 teaspoons ginger",
                "1 egg",
            ),
            (
                "Melt butter, sugar and syrup together.",
                "Mix in flour, ginger and the egg.",
                "Chill, then roll out and cut shapes.",
                "Bake for 14 minutes at 180 degrees.",
            ),
        ),
        "courier-prime",
        ("printed", "tiff"),
        camera=Camera(grain=0, gradient=0.05),
        suffix="tif",
    ),
    Card(
        "form",
        Recipe(
            "Recipe Card",
            "Please write in block letters",
            (),
            ("Heat the milk to 43 degrees and stir in the culture.", "Keep it warm for eight hours, then chill."),
            cells=(
                (("Name:", "Plain Yoghurt"), ("Number:", "0417")),
                (("Serves:", "5"), ("Time:", "8 hours")),
                (("Milk:", "1000 ml"), ("Culture:", "30 g")),
                (("Source:", "Dairy leaflet"), ("Rating:", "good")),
            ),
        ),
        "courier-prime",
        ("printed", "form"),
        layout="form",
        width=1300,
    ),
    Card(
        "small-640",
        Recipe(
            "Garlic Butter Prawns",
            "Serves 2, 12 minutes",
            (
                "300 g raw prawns",
                "40 g butter",
                "4 cloves garlic",
                "1 small red chilli",
                "half a lemon",
            ),
            (
                "Melt the butter with garlic and chilli.",
                "Add the prawns and cook until pink.",
                "Squeeze over the lemon and serve.",
            ),
        ),
        "open-sans",
        ("printed", "small"),
        width=640,
        quality=70,
        min_word_recall=0.9,
    ),
    Card(
        "large-3000",
        Recipe(
            "Braised Red Cabbage",
            "Serves 8, two hours",
            (
                "1 red cabbage, shredded",
                "2 apples, grated",
                "60 ml cider vinegar",
                "50 g brown sugar",
                "3 cloves and 1 bay leaf",
            ),
            (
                "Put everything in a heavy pot with a lid.",
                "Cook on a low heat and stir now and then.",
                "Taste for salt and vinegar at the end.",
            ),
        ),
        "lora",
        ("printed", "large"),
        width=3000,
        camera=Camera(grain=0.8),
        quality=40,
    ),
    Card(
        "perspective",
        Recipe(
            "Baked Feta Pasta",
            "Serves 4, 40 minutes",
            (
                "200 g feta cheese",
                "500 g cherry tomatoes",
                "350 g short pasta",
                "4 tablespoons olive oil",
                "1 bunch basil",
            ),
            (
                "Put feta and tomatoes in a dish with the oil.",
                "Roast for 30 minutes at 200 degrees.",
                "Boil the pasta and keep a cup of its water.",
                "Mash the sauce and toss it with pasta and basil.",
            ),
        ),
        "open-sans",
        ("printed", "perspective"),
        camera=Camera(keystone=0.1, margin=70),
    ),
)
