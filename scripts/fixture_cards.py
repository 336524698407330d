"""The texts of the recipe photos and the degradation of each: data for ``make_fixtures.py``.

The recipes are written for this project. Every line of text is one row on the photo, in the
reading order.
"""

from __future__ import annotations

from scripts.fixture_card import Camera, Card, Recipe
from scripts.fixture_layouts import LAYOUTS

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
    *LAYOUTS,
)
