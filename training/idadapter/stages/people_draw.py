"""Draws the people of a step of the IDAdapter stage: whose photos, what they are told, and whose references."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from ..config import IdAdapterConfig
from ..data.captions import CLASS_NOUNS, caption, mirrored
from ..data.embeddings import by_identity, clean_identities, identity_means
from ..data.facts import Facts
from ..data.latents import Latents
from ..data.portraits import Portraits
from ..data.references import References
from ..data.told import TOLD, tells_expression, tells_hat, told_emotion, told_values
from ..data.turned_heads import APPARENT, LARGEST_TURN, varied_turn, yaw_offset_at
from ..faces.emotion import CLASSES
from ..loop import StepRandom
from ..models.text_encoder import identifier_positions
from ..noise_schedule import stratified_timesteps
from ..rollouts import guided_prompts, rollout_needed, rollout_times
from ..tokenizer import IDENTIFIER, encode_prompts, shortened, with_identifier, without_identifier
from .diffusion import CaptionedPhotos
from .drawn_people import DrawnPeople

ROLLOUT_TIMESTEPS = (100, 700)
"""Where a rollout ends and is judged: from where on one step shows a face, to where nothing of it changes any more."""

CHANGEABLE = ("smiling", "mouth_open", "emotion", "glasses", "hat", "yaw")
"""Facts in which two photos of a person may differ: a rollout is told another photo's."""

TURNED = 0.2
"""The least `Facts.yaw` of a photo that looks clearly to a side."""

TURNED_REFERENCE_YAW = 0.25
"""Standard deviation of where a turned reference looks, radians: most photos that people have of themselves are nearly
from the front."""


@dataclass(frozen=True)
class Kinds:
    """What b rows are: [b] bool, but for the last two.

    Attributes:
        rendition: an art rendition of the photo is to be drawn.
        anonymous: E_r is nobody's.
        empty: there are no words.
        wordless: the words are the class noun at most, and
        untold: are so because the reference shows the very picture.
        itself: the photo is among its own references, and
        flipped: is so as its mirror image,
        varied: or with its head turned as far as the service turns one,
        turned: or with its head turned to somewhere near the front.
        photos: [p], which are rolled out as photos, and
        renditions: [q], which as renditions.
    """

    rendition: np.ndarray
    anonymous: np.ndarray
    empty: np.ndarray
    wordless: np.ndarray
    untold: np.ndarray
    itself: np.ndarray
    flipped: np.ndarray
    varied: np.ndarray
    turned: np.ndarray
    photos: np.ndarray
    renditions: np.ndarray


@dataclass(frozen=True)
class Told:
    """What b rows are told; `PeopleDraw.tell_rollouts` tells those that are rolled out something else.

    Attributes:
        nouns: of each person.
        prompts: with the identifier, but for the anonymous.
        shown: the facts of a picture that is as the prompt says.
        real_rows: [b], photos that are as the prompt says, and
        real_variants: [b], which variants of them.
    """

    nouns: list[str]
    prompts: list[str]
    shown: list[Facts]
    real_rows: np.ndarray
    real_variants: np.ndarray


class PeopleDraw:
    """Draws a step's people from the training photos."""

    def __init__(
        self,
        config: IdAdapterConfig,
        tokenizer: CLIPTokenizer,
        portraits: Portraits,
        latents: Latents,
        embeddings: np.ndarray,
        second_embeddings: np.ndarray | None,
        crop_size: int,
        last_timestep: int,
    ) -> None:
        """Keeps what is drawn from.

        Args:
            config: the stage's.
            tokenizer: of the prompts.
            portraits: the photos.
            latents: their latents, and the pictures that these are of.
            embeddings: f_a of the photos [n, 2, d_a].
            second_embeddings: the same of a second recogniser's, None where none looks.
            crop_size: side of the references, as the image encoder takes them.
            last_timestep: where rollouts begin.
        """
        self.config, self.tokenizer, self.portraits, self.latents = config, tokenizer, portraits, latents
        self.last_timestep = last_timestep
        self.captioned = CaptionedPhotos(portraits, config.rendition_share)
        identity, everybody = by_identity(portraits)
        groups, self.means = clean_identities(embeddings, everybody)
        self.second_means = np.zeros((len(self.means), 0), np.float32)
        if second_embeddings is not None:
            self.second_means = identity_means(second_embeddings, everybody, groups)
        self.references = References(
            portraits,
            embeddings,
            groups,
            identity,
            config.references,
            min(config.different_references or config.references, config.references),
            crop_size,
            config.single_share,
        )
        clean = np.intersect1d(np.concatenate(list(groups.values())), portraits.train)
        several = np.array([len(groups[identity[row]]) > 1 for row in clean])
        self.several, self.alone = clean[several], clean[~several]
        train, facts = portraits.train, self.captioned.facts
        self.turned = train[[abs(facts[row].yaw) >= TURNED for row in train]]
        shown = [facts[row].emotion if not facts[row].smiling else None for row in train]
        self.emotional = [train[[one == emotion for one in shown]] for emotion in sorted({*shown} - {None})]
        ending = with_identifier("", max(CLASS_NOUNS, key=len))
        self.identifier_length = len(tokenizer(ending, add_special_tokens=False)["input_ids"])
        self.identifier_id = tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>")

    def __call__(self, random: StepRandom) -> DrawnPeople:
        """The people of a step."""
        config, draw = self.config, random.numpy
        rows = self.rows(draw)
        captions, variants = self.captioned(rows, draw, noun_always=True)
        timesteps = self.timesteps(draw)
        kinds = self.kinds(variants, timesteps.numpy(), draw)
        mirror = (variants == 1) ^ kinds.flipped
        yaws, turns = self.reference_turns(rows, mirror, kinds.varied, kinds.turned, draw)
        crops, index, faces, counts = self.references(rows, mirror, draw, kinds.itself, turns)
        told = self.tell(rows, variants, captions, kinds, draw)
        self.tell_rollouts(told, timesteps, kinds, draw)
        judged = self.judged(kinds)
        facts = [told_values(told.prompts[i], told.shown[i]) for i in judged]
        facts = np.array(facts, np.float32).reshape(-1, len(TOLD))
        # Where words do not say where to look, the reference does.
        looks = facts[:, TOLD.index("yaw")]
        turned = kinds.varied[judged] & np.isnan(looks)
        looks[turned] = yaw_offset_at(yaws[judged] + APPARENT * turns[judged])[turned]
        emotions = [told_emotion(told.prompts[i], told.shown[i]) for i in kinds.photos]
        emotions = [-1 if emotion is None else CLASSES.index(emotion) for emotion in emotions]
        telling = np.array([(tells_expression(prompt), tells_hat(prompt)) for prompt in told.prompts])
        shares = (config.expressive_share, config.hat_share)
        quiet = ~kinds.anonymous[:, None] & telling & (draw.random(telling.shape) < shares)
        ids = encode_prompts(self.tokenizer, told.prompts)
        return DrawnPeople(
            rows=rows,
            variants=variants,
            timesteps=timesteps,
            crops=crops,
            index=index,
            faces=faces,
            counts=counts,
            ids=ids,
            positions=identifier_positions(ids, self.identifier_id),
            anonymous=torch.from_numpy(kinds.anonymous),
            quiet=torch.from_numpy(quiet),
            **self.rollouts(told, timesteps, index, kinds),
            judged=torch.from_numpy(judged),
            told=torch.from_numpy(facts),
            emotions=torch.tensor(emotions, dtype=torch.int64),
            alike=torch.from_numpy((kinds.untold & ~kinds.varied)[judged]),
            photos=torch.from_numpy(self.latents.pictures(rows[judged], variants[judged])),
            means=torch.from_numpy(self.means[rows[judged]]),
            second_means=torch.from_numpy(self.second_means[rows[judged]]),
        )

    def rows(self, draw: np.random.Generator) -> np.ndarray:
        """Training photos; people with several photos more often than their share."""
        count = self.config.loop.batch_size
        several = draw.random(count) < self.config.several_share
        if not len(self.alone) or not len(self.several):
            return draw.choice(self.several if len(self.several) else self.alone, count)
        return np.where(several, draw.choice(self.several, count), draw.choice(self.alone, count))

    def timesteps(self, draw: np.random.Generator) -> Tensor:
        """[b] int64, spread evenly over the batch, from `least_timestep` on."""
        config, count = self.config, self.config.loop.batch_size
        uniform = torch.from_numpy(draw.random(count, np.float32))
        timesteps = stratified_timesteps(uniform, 1000 - config.least_timestep, config.timestep_shift)
        return (timesteps + config.least_timestep)[torch.from_numpy(draw.permutation(count))]

    def kinds(self, variants: np.ndarray, timesteps: np.ndarray, draw: np.random.Generator) -> Kinds:
        """What each row is, by the configuration's shares.

        Args:
            variants: [b], which of `data.latents.VARIANTS`.
            timesteps: [b].
            draw: draws everything.
        """
        config, count = self.config, len(variants)
        rendition = variants == 2
        share = np.where(timesteps < 500, config.itself_share_low_noise, config.itself_share)
        # A rendition's reference is the photo that it was made of, or another; and only its caption asks for it.
        itself = draw.random(count) < np.where(rendition, config.rendition_itself_share, share)
        # Guidance needs three unconditional kinds: nothing known, the words alone, the person alone.
        kind = draw.random(count)
        anonymous_share = config.condition_dropout + config.words_alone_share
        empty, anonymous = kind < config.condition_dropout, kind < anonymous_share
        person_alone = ~anonymous & (kind < anonymous_share + config.condition_dropout)
        photos = np.flatnonzero(~anonymous & ~rendition)[: config.rollout_rows]
        varied = np.zeros(count, bool)
        varied[photos] = draw.random(len(photos)) < config.rollout_turned_reference_share
        itself |= varied
        # Whose reference shows the very picture is seldom told more: words then ask for another picture.
        untold = itself & ~rendition & (draw.random(count) < config.itself_wordless_share)
        told = itself & ~rendition & ~untold
        flipped = told & ~varied & (draw.random(count) < config.itself_mirrored_share)
        turned = told & ~varied & (draw.random(count) < config.itself_turned_share)
        wordless = empty | person_alone | (~anonymous & untold)
        renditions = np.flatnonzero(~anonymous & ~wordless & rendition)
        renditions = renditions[: config.rollout_renditions if config.rollout_rows else 0]
        return Kinds(rendition, anonymous, empty, wordless, untold, itself, flipped, varied, turned, photos, renditions)

    def reference_turns(
        self, rows: np.ndarray, mirrored: np.ndarray, varied: np.ndarray, turned: np.ndarray, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the heads of references look that are the photo itself, and by how much they are turned, radians.

        Args:
            rows: [b], the photos.
            mirrored: [b] bool, whether the reference is the mirror image.
            varied: [b] bool, which are turned as far as `LARGEST_TURN` from where they look, as by the service.
            turned: [b] bool, which others look somewhere near the front.
            draw: draws the turns.

        Returns:
            yaws [b] and turns [b]; both 0 where neither.
        """
        yaws, turns = np.zeros(len(rows)), np.zeros(len(rows))
        for i in np.flatnonzero(varied | turned):
            yaws[i] = self.references.yaw(int(rows[i]), bool(mirrored[i]))
            if varied[i]:
                turns[i] = varied_turn(yaws[i], draw.uniform(-LARGEST_TURN, LARGEST_TURN))
            else:
                turns[i] = draw.normal(0, TURNED_REFERENCE_YAW) - yaws[i]
        return yaws, turns

    def tell(
        self, rows: np.ndarray, variants: np.ndarray, captions: list[str], kinds: Kinds, draw: np.random.Generator
    ) -> Told:
        """What is true of the photos: their captions, shortened to leave room for the identifier, or less.

        Args:
            rows: [b], the photos.
            variants: [b], which of `data.latents.VARIANTS`.
            captions: of these.
            kinds: who is told less.
            draw: draws who is but a person.
        """
        facts = [self.captioned.facts[row] for row in rows]
        nouns = [fact.noun if draw.random() > 0.1 else "person" for fact in facts]
        prompts = []
        for i, noun in enumerate(nouns):
            words = "" if kinds.empty[i] else noun if kinds.wordless[i] else captions[i]
            words = shortened(self.tokenizer, words, self.identifier_length)
            prompts.append(words if kinds.anonymous[i] else with_identifier(words, noun))
        shown = [mirrored(fact) if variant == 1 else fact for fact, variant in zip(facts, variants, strict=True)]
        return Told(nouns, prompts, shown, rows.copy(), variants.copy())

    def tell_rollouts(self, told: Told, timesteps: Tensor, kinds: Kinds, draw: np.random.Generator) -> None:
        """Tells who is rolled out as a photo what is true of another photo, and draws where rollouts end.

        Args:
            told: of all rows; changed.
            timesteps: [b]; changed.
            kinds: who is rolled out.
            draw: draws everything.
        """
        for i in kinds.photos:
            timesteps[i] = int(draw.integers(*ROLLOUT_TIMESTEPS))
            if kinds.wordless[i]:
                continue
            told.real_rows[i], told.real_variants[i] = self.told_of(draw), 0
            other = self.captioned.facts[told.real_rows[i]]
            told.shown[i] = replace(told.shown[i], **{name: getattr(other, name) for name in CHANGEABLE})
            words = caption(told.shown[i], draw, None, told.nouns[i])
            words = shortened(self.tokenizer, words, self.identifier_length)
            told.prompts[i] = with_identifier(words, told.nouns[i])
        for i in kinds.renditions:
            timesteps[i] = int(draw.integers(*ROLLOUT_TIMESTEPS))

    def told_of(self, draw: np.random.Generator) -> int:
        """A training photo that a rollout is told of: some look clearly to a side, some show an emotion."""
        config, kind = self.config, draw.random()
        if len(self.turned) and kind < config.rollout_turned_share:
            return int(draw.choice(self.turned))
        kind -= config.rollout_turned_share
        if self.emotional and 0 <= kind < config.rollout_emotion_share:
            return int(draw.choice(self.emotional[draw.integers(len(self.emotional))]))
        return int(draw.choice(self.portraits.train))

    def judged(self, kinds: Kinds) -> np.ndarray:
        """[j], which rows the recogniser sees: those rolled out as photos, then others, some of them told more."""
        others = np.setdiff1d(np.flatnonzero(~kinds.anonymous & ~kinds.rendition), kinds.photos)
        first = others[~kinds.wordless[others]][: self.config.recognized_told]
        others = np.sort(np.concatenate([first, np.setdiff1d(others, first)])[: self.config.recognized])
        return np.concatenate([kinds.photos, others])

    def rollouts(self, told: Told, timesteps: Tensor, index: Tensor, kinds: Kinds) -> dict[str, Any]:
        """What `DrawnPeople` has of who is rolled out, and who is not.

        Args:
            told: of all rows.
            timesteps: [b].
            index: [b, K], which crops are whose.
            kinds: who is rolled out.
        """
        rolled = np.concatenate([kinds.photos, kinds.renditions])
        whose = torch.from_numpy(rolled)
        crops, crop_index = torch.unique(index[whose], return_inverse=True)
        prompts, nouns = [told.prompts[i] for i in rolled], [told.nouns[i] for i in rolled]
        ids = self.encoded(guided_prompts(self.config, prompts, nouns))
        times = rollout_times(self.config, timesteps[whose], self.last_timestep)
        words = [without_identifier(prompt, noun) for prompt, noun in zip(prompts, nouns, strict=True)]
        return {
            "drawn": torch.from_numpy(np.setdiff1d(np.arange(len(timesteps)), rolled)),
            "rolled": whose,
            "rolled_crops": crops,
            "rolled_index": crop_index,
            "rolled_ids": ids,
            "rolled_positions": identifier_positions(ids, self.identifier_id),
            "rolled_times": times,
            "rolled_needed": [rollout_needed(self.config, now) for now in times[:-1]],
            "rolled_words": self.encoded(words),
            "real_rows": told.real_rows[rolled],
            "real_variants": told.real_variants[rolled],
        }

    def encoded(self, prompts: list[str]) -> Tensor:
        """Token ids [n, L] of n prompts, or of none."""
        return encode_prompts(self.tokenizer, prompts or [""])[: len(prompts)]
